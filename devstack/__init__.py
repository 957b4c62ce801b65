"""Real servers (Kafka, Redis, MLflow …) as child processes, for the demo, tests and load tests."""
