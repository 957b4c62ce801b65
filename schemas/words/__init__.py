"""How amounts of time, shares and features are said to people."""
