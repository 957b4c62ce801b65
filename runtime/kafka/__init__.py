"""Kafka behind protocols: clients for the services and an in-memory broker for tests."""
