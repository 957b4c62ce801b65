"""The database itself: engines, tables, migrations, locks and positions."""
