"""One training run, from data to a judged bundle; see `run`."""
