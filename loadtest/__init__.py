"""A believable world of card payments, and the load tests that send it through the services."""
