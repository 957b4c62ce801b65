"""What the monitor concludes: alerts, retraining and rollbacks."""
