"""The feature engine: pure and compiled, the same for live processing, replay and training."""
