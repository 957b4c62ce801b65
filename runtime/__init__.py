"""The shared input and output of every service: settings, Kafka, Redis, metrics and processes."""
