"""Runs our services as processes on a Kafka and a Redis."""
