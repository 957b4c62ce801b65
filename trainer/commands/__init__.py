"""One command of `python -m trainer` a file."""
