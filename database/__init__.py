"""The relational database: accounts, the review queue and stored decisions."""
