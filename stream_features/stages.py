"""Where the time of a batch goes: one timer for every stage of the cycle."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from schemas.runtime.metrics import Metrics


class Stages:
    """Times the stages decode, order, load, compute, encode, acknowledge, commit and publish."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the time inside to the histogram of `stage`, also when it raises."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._metrics.observe("stage_seconds", time.perf_counter() - began, stage=stage)
