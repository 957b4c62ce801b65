"""Learning: datasets, training, evaluation and the model registry."""
