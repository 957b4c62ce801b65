"""The catalogue by the protocol of the Fraud Detection Handbook; see `protocol`."""
