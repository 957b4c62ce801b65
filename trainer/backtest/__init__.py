"""The past under other models and policies; see `replay`."""
