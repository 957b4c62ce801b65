"""The contract: records, topics, feature catalogue, keys and errors."""
