"""A believable world of card payments, and what measures the services under it."""
