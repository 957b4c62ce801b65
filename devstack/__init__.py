"""Real Kafka and Redis as child processes, for the demo, the tests and loadtest."""
