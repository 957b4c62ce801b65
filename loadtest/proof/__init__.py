"""Proofs that survive faults: live equals replay, and the gateway answers every request."""
