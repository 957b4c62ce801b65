"""Judges the observed traffic: alerts, retrain requests and rollbacks."""
