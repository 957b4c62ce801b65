"""A slow, obviously right reference of the stream features, and streams to try (tests only)."""
