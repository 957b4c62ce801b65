"""The rule book: what a transaction and a label may be, whichever way they come in."""
