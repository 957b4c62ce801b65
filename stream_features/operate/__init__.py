"""Commands for operators: show, dump, rebuild and sizes."""
