"""The commands of `python -m loadtest`, imported only as far as --help needs."""
