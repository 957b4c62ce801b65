"""Sends transactions, receives the decisions, and accounts for every one."""
