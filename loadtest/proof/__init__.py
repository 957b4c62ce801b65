"""Proofs that live equals offline, also through faults."""
