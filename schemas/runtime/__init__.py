"""The shared I/O of every service: settings, Kafka, Redis, metrics, health, life cycle, logs.

Importing this package loads none of it; import the module that is needed.
"""
