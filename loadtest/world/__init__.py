"""The generated world: people, merchants, honest purchases and fraud, all drawn from one seed."""
