"""When the daily runs are due: minutes of the day, UTC. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from schemas.features import DAY

MINUTE: Final = 60_000


def last_due(minutes: Sequence[int], now_ms: int) -> int | None:
    """Return the newest time at or before `now_ms` at which a run was due; None: never.

    >>> last_due([180], 27 * 3_600_000 - 1) == 3 * 3_600_000
    True
    """
    midnight = now_ms // DAY * DAY
    times = [midnight + day + minute * MINUTE for day in (-DAY, 0) for minute in minutes]
    return max((time for time in times if time <= now_ms), default=None)
