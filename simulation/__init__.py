"""The whole learning loop on an event-time clock; see `learning_loop`."""
