"""A model bundle: boosted trees, anomaly forest and adjustment, compiled for scoring."""
