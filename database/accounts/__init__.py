"""People, sessions, passwords, API keys and the audit log."""
