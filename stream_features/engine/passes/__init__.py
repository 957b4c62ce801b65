"""The passes over the entities of a batch."""
