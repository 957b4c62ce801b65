"""StoredDecision decisions, policies and the evidence around a transaction."""
