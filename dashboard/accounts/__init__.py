"""Logging in, people and the audit log."""
