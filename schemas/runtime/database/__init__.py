"""The one relational database: decisions by id, review cases, people and their keys, the audit."""
