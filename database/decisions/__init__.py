"""Stored decisions, policies and the evidence around a transaction."""
