"""When labels become known: reports by card holders, verdicts on alerts, and an outage of both."""

from __future__ import annotations

import heapq

import numpy as np
import numpy.typing as npt

from simulation.simulated_stream import LabelBatch
from simulation.simulated_world import SimulatedWorld

REPORT, VERDICT = "CUSTOMER", "ANALYST"


class LabelDesk:
    """Hands labels out in the order in which they become known.

    None comes in the period `silent` (since, until, in ms); they are handed out after it.
    """

    def __init__(self, world: SimulatedWorld, silent: tuple[int, int] | None = None) -> None:
        self._world, self._silent = world, silent
        reported = np.flatnonzero(world.label)
        self._reports = reported[np.argsort(world.label_time[reported], kind="stable")]
        self._report_time = world.label_time[self._reports]
        self._next = 0
        self._verdicts: list[tuple[int, int]] = []

    def alerted(self, rows: npt.NDArray[np.int64]) -> None:
        """Note alerts that people will settle."""
        for row in rows.tolist():
            heapq.heappush(self._verdicts, (int(self._world.verdict_time[row]), row))

    def until(self, now_ms: int) -> LabelBatch:
        """Return the labels known by `now_ms` that were not handed out before."""
        if self._silent is not None and self._silent[0] <= now_ms < self._silent[1]:
            return _batch([])
        last = int(np.searchsorted(self._report_time, now_ms, side="right"))
        rows = self._reports[self._next : last]
        found = [(int(self._world.label_time[row]), row, True, REPORT) for row in rows.tolist()]
        self._next = last
        while self._verdicts and self._verdicts[0][0] <= now_ms:
            known, row = heapq.heappop(self._verdicts)
            found.append((known, row, bool(self._world.fraud[row]), VERDICT))
        return _batch(sorted(found))


def _batch(found: list[tuple[int, int, bool, str]]) -> LabelBatch:
    return LabelBatch(
        np.array([row for _, row, _, _ in found], np.int64),
        np.array([fraud for _, _, fraud, _ in found], np.bool_),
        np.array([known for known, _, _, _ in found], np.int64),
        [source for _, _, _, source in found],
    )
