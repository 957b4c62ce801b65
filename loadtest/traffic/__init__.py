"""Traffic: what is sent, received and accounted for."""
