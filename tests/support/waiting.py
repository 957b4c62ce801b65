"""Waiting in tests: for what a test needs, and never for a time that the machine decides."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 300.0
"""After how long a test gives up: far longer than a machine under load needs."""


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, or fail by naming it."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.02)
