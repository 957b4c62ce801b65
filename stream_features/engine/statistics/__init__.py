"""Statistics of one entity as of one transaction."""
