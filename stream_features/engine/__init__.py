"""The feature engine: pure, compiled, the same for live, replay and training."""
