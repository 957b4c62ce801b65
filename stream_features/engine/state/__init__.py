"""State of entities: in flat arrays, and as bytes."""
