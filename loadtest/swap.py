"""A model swap in mid-run, and what it does to latency. Used by run.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from loadtest.ledger import Ledger
from loadtest.model import publish
from loadtest.traffic import Phase
from schemas.runtime.settings import Settings

SECOND_NS: Final = 1_000_000_000
STEP_NS: Final = 100_000_000
LOAD_NS: Final = 5 * SECOND_NS
"""If no decision names the new model, its loading is looked for in this time."""


class Swap(NamedTuple):
    """Put the bundle in `model` on the registry topic `at_s` seconds after the start."""

    at_s: float
    model: Path


class Swapper:
    """Publishes once, when its time has come."""

    def __init__(self, swap: Swap, settings: Settings) -> None:
        self._swap = swap
        self._settings = settings
        self.published = 0
        """When (ns, monotonic); 0: not yet."""

    def tick(self, started: int, now: int) -> None:
        """Publish if it is time: `started` and `now` in ns, monotonic."""
        if not self.published and started and now >= started + int(self._swap.at_s * SECOND_NS):
            publish(self._settings, self._swap.model)
            self.published = now


def p99_ms(latency: npt.NDArray[np.int64]) -> float | None:
    """Return the 99th percentile in ms of latencies in ns; None if there is none."""
    answered = latency[latency >= 0]
    return round(float(np.percentile(answered, 99)) / 1e6, 3) if len(answered) else None


def effect(ledger: Ledger, phase: Phase, published: int, applied: int | None) -> dict[str, Any]:
    """Return p99 before, in the worst second of, and after a swap.

    The new model is fetched and loaded after `published` (ns, monotonic) and decides from `applied`
    on; the worst second is looked for from the one until a second after the other.
    """
    rows = slice(phase.first, phase.last)
    due, latency = ledger.due[rows], ledger.latency[rows]
    end = (published + LOAD_NS if applied is None else applied) + SECOND_NS
    before = p99_ms(latency[due < published])
    seconds = [
        p99_ms(latency[(due >= at) & (due < at + SECOND_NS)])
        for at in range(published, max(end - SECOND_NS, published) + 1, STEP_NS)
    ]
    worst = max((each for each in seconds if each is not None), default=None)
    ratio = None if before is None or worst is None else round(worst / before, 3)
    return {
        "published_s": round((published - phase.started) / 1e9, 3),
        "applied_s": None if applied is None else round((applied - phase.started) / 1e9, 3),
        "p99_before_ms": before,
        "p99_in_swap_ms": worst,
        "p99_after_ms": p99_ms(latency[due >= end]),
        "p99_in_swap_ratio": ratio,
    }
