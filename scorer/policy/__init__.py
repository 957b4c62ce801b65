"""The policy: its document, its expressions and its event."""
