"""Runs that are measured, and their reports."""
