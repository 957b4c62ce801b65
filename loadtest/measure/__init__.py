"""Measured runs and their reports."""
