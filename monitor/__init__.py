"""Watching: quality and drift of what is served."""
