"""Event hours in which each model decided, and when it last did. Pure.

Stages of models are dated by the wall clock, cells by event time. Behind a backlog, or in replayed
history, the two differ; each decision has both times and so links them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from schemas.features import HOUR

Ints = npt.NDArray[np.int64]


class ActiveHours:
    """The time of the newest decision for each model and each retained event hour."""

    def __init__(self) -> None:
        self._newest: dict[str, dict[int, int]] = {}

    def add(
        self,
        kept: range,
        model: npt.NDArray[np.uint64],
        names: Mapping[int, str],
        event_time: Ints,
        decided_at: Ints,
    ) -> None:
        """Note n decisions: models by hash as in `names`, times in ms; drop hours outside `kept`.

        >>> active = ActiveHours()
        >>> active.add(range(0, 48), np.array([7, 7], np.uint64), {7: "m"},
        ...            np.array([5 * HOUR, 6 * HOUR]), np.array([100, 900]))
        >>> active.since("m"), active.since("m", 500)
        ([5, 6], [6])
        """
        hours = event_time // HOUR
        for number, name in names.items():
            mine = model == number
            known = self._newest.setdefault(name, {})
            for hour in np.unique(hours[mine]).tolist():
                newest = int(decided_at[mine & (hours == hour)].max())
                known[hour] = max(known.get(hour, newest), newest)
        for name, known in list(self._newest.items()):
            if any(hour not in kept for hour in known):
                self._newest[name] = {hour: at for hour, at in known.items() if hour in kept}
            if not self._newest[name]:
                del self._newest[name]

    def since(self, model_id: str, moment_ms: int = 0) -> list[int]:
        """Return the event hours, ascending, in which a model decided at `moment_ms` or later."""
        known = self._newest.get(model_id, {})
        return sorted(hour for hour, newest in known.items() if newest >= moment_ms)
