"""The stream processor: velocity and deviation features, with their state in Redis."""
