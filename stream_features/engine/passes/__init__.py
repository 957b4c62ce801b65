"""The passes of a batch over its entities."""
