"""`make demo`: everything at work."""
