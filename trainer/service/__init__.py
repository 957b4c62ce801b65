"""The training service: which run is due, and its child process; see `service`."""
