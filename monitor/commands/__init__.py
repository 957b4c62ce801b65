"""Commands of the monitor that have a file of their own."""
