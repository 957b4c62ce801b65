"""The page of one transaction."""
