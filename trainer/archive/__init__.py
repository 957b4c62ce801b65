"""The archive: what was served, in Delta Lake tables; see `tables`."""
