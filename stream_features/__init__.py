"""Velocity and deviation features kept in Redis, one vector for each transaction."""
