"""Watches the quality and drift of the models that serve."""
