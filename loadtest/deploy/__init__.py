"""Our services as processes on a stack."""
