"""Evidently's report of a period."""
