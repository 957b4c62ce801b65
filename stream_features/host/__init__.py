"""Faust as a shell around the worker."""
