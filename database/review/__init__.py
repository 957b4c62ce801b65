"""Review cases: what analysts see, claim and decide."""
