"""The web pages: live figures, review queue, transactions, models and accounts."""
