"""Dead letters: looking at them, and sending their messages again."""
