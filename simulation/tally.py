"""The decision on every transaction, and the figures by which a run is judged. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.features import DAY, HOUR
from simulation.share import Share
from simulation.simulated_world import SimulatedWorld

UNDECIDED = 255
SHOWN_HOURS = 120
"""Hours after the onset that are reported one by one."""


class Tally:
    """Actions and roles by row of the world; see `scorer.decision.judge` for the codes."""

    def __init__(self, world: SimulatedWorld) -> None:
        self._world = world
        self.action = np.full(len(world), UNDECIDED, np.uint8)
        self.role = np.zeros(len(world), np.uint8)

    def note(
        self, rows: range, action: npt.NDArray[np.uint8], role: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.int64]:
        """Note decisions; return the rows that are not approved."""
        place = slice(rows.start, rows.stop)
        self.action[place], self.role[place] = action, role
        return np.flatnonzero(action != 0) + rows.start

    def genuine_alerted(self, since: int, until: int) -> Share:
        """Return how many genuine transactions were alerted, of how many."""
        chosen = self._decided(since, until) & ~self._world.fraud
        return Share(int((self.action[chosen] > 0).sum()), int(chosen.sum()))

    def precision(self, since: int, until: int) -> float | None:
        """Return the share of frauds among settled alerts; None without any.

        An alert is settled if its verdict came by `until`.
        """
        chosen = self._decided(since, until) & (self.action > 0)
        chosen &= self._world.verdict_time <= until
        return _mean(self._world.fraud[chosen])

    def recall(self, since: int, until: int, *, pattern: bool) -> float | None:
        """Return the share of frauds that were alerted, of the new pattern or of the others."""
        chosen = self._decided(since, until) & self._world.fraud
        chosen &= self._world.pattern if pattern else ~self._world.pattern
        return _mean(self.action[chosen] > 0)

    def recall_by_hour(self, onset: int) -> dict[str, dict[str, Any]]:
        """Return hour since onset → frauds of the new pattern and recall, where there are any."""
        found: dict[str, dict[str, Any]] = {}
        for hour in range(SHOWN_HOURS):
            since = onset + hour * HOUR
            chosen = self._decided(since, since + HOUR) & self._world.pattern
            if chosen.any():
                found[str(hour)] = {
                    "frauds": int(chosen.sum()),
                    "recall": _mean(self.action[chosen] > 0),
                }
        return found

    def precision_by_hour(self, onset: int, end: int) -> dict[str, float]:
        """Return hour since onset → precision of the settled alerts of the day up to its end."""
        found = {}
        for hour in range((end - onset) // HOUR):
            until = onset + (hour + 1) * HOUR
            value = self.precision(until - DAY, until)
            if value is not None:
                found[str(hour)] = round(value, 4)
        return found

    def _decided(self, since: int, until: int) -> npt.NDArray[np.bool_]:
        rows = self._world.rows(since, until)
        chosen = np.zeros(len(self._world), np.bool_)
        chosen[rows.start : rows.stop] = self.action[rows.start : rows.stop] != UNDECIDED
        return chosen


def _mean(values: npt.NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None
