"""Kafka behind Protocols: clients for services, and an in-memory broker for tests."""
