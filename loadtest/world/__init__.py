"""The seeded world: people, merchants, honest purchases and fraud."""
