"""What the topics and the rights must be."""
