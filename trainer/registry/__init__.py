"""The trainer's part in the registry: what it publishes, and how candidates go on."""
