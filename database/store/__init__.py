"""The service that fills the database from Kafka."""
