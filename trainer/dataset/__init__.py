"""Datasets for training, by replay or from the archive, and their check."""
