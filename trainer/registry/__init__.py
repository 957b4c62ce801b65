"""The trainer's part in the registry: publication, and the way of candidates."""
