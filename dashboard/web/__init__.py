"""What every page shares: the gate in front of it, headers, errors and templates."""
