"""The whole loop on an event-time clock: see `loop`; called by `python -m simulation run`."""
