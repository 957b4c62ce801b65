"""Kafka, Redis, PostgreSQL, MLflow and Prometheus as child processes."""
