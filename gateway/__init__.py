"""The REST gateway: a transaction in, the pipeline's decision out."""
