"""Column mappings: any table to the fields of a Transaction, checked by the rule book."""
