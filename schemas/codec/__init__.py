"""The wire formats: fastavro as the reference, and compiled codecs for the hot path."""
