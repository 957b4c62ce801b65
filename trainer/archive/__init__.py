"""The archive: everything that was served, in Delta Lake tables; see `delta_tables`."""
