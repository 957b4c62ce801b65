"""Where the time of a batch goes: one timer for every stage of the cycle."""

from __future__ import annotations

import time
from typing import Final

from runtime.metrics import Metrics

STAGES: Final = (
    "decode", "order", "load", "compute", "encode", "acknowledge", "commit", "publish",
)  # fmt: skip


class Stage:
    """Adds the time inside to its histogram, also when it raises. Not reentrant."""

    __slots__ = ("_began", "_histogram")

    def __init__(self, metrics: Metrics, name: str) -> None:
        self._histogram = metrics.histogram("stage_seconds", stage=name)
        self._began = 0.0

    def __enter__(self) -> None:
        """Start."""
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._histogram.observe(time.perf_counter() - self._began)


class Stages:
    """The timers of `STAGES`, used from one thread at a time."""

    def __init__(self, metrics: Metrics) -> None:
        self._stages = {name: Stage(metrics, name) for name in STAGES}

    def time(self, stage: str) -> Stage:
        """Return the timer of a stage, for `with`."""
        return self._stages[stage]
