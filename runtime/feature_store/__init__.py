"""The feature store behind a Protocol: on Redis for services, in memory for tests."""
