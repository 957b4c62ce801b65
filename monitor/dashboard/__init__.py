"""The dashboard: what operators, analysts and model owners see and do, behind a log-in."""
