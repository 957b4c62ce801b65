"""The page of one policy version."""
