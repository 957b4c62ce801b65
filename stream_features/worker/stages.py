"""Timers that measure each stage of the batch cycle."""

from __future__ import annotations

import time
from typing import Final

from runtime.metrics import Metrics

STAGES: Final = (
    "decode", "order", "load", "compute", "encode", "acknowledge", "commit", "publish",
)  # fmt: skip


class StageTimer:
    """Records the time spent in its `with` block, exceptions included. Not reentrant."""

    __slots__ = ("_began", "_histogram")

    def __init__(self, metrics: Metrics, name: str) -> None:
        self._histogram = metrics.histogram("stage_seconds", stage=name)
        self._began = 0.0

    def __enter__(self) -> None:
        """Start the timer."""
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        """Record the elapsed time."""
        self._histogram.observe(time.perf_counter() - self._began)


class StageTimers:
    """One timer for each of `STAGES`. Use it from one thread at a time."""

    def __init__(self, metrics: Metrics) -> None:
        self._stages = {name: StageTimer(metrics, name) for name in STAGES}

    def time(self, stage: str) -> StageTimer:
        """Return the timer of a stage, to be used in a `with` statement."""
        return self._stages[stage]
