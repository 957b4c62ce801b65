"""What the monitor remembers of the traffic, in bounded memory."""
