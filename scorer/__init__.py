"""Scoring: model bundle, policy, reasons and the service that answers each transaction."""
