"""Evidently's report on a period."""
