"""The REST gateway: `python -m scorer api`. docs/architecture.md says how a request goes."""
