"""Faust as a host around the worker."""
