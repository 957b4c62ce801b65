"""When a record arrived: only the broker knows for sure.

Topics made by us have the broker's time of arrival (LogAppendTime). On others each producer sets
what it likes: nothing, seconds, tomorrow, the time of an event a year ago.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from schemas.topics import DAY_MS

Ints = npt.NDArray[np.int64]
BY_BROKER: Final = 1
"""Kafka's timestamp type of a time that the broker set."""
OLDEST_MS: Final = 7 * DAY_MS
"""How long `transactions` is kept: no record waited longer."""
_TIMESTAMP = attrgetter("timestamp")
_TYPE = attrgetter("timestamp_type")


def arrival_times(records: Sequence[Any], now_ms: int) -> tuple[Ints, Ints]:
    """Return the latest possible and the likely arrival of n records, in ms, shapes (n,).

    Event times are checked against the first. The second is for latencies: a producer's time, too,
    where it can be right.
    """
    count = len(records)
    stamped = np.fromiter(map(_TIMESTAMP, records), np.int64, count)
    ours = np.fromiter(map(_TYPE, records), np.int8, count) == BY_BROKER
    if ours.all():
        return stamped, stamped
    likely = ours | ((stamped <= now_ms) & (stamped > now_ms - OLDEST_MS))
    return np.where(ours, stamped, now_ms), np.where(likely, stamped, now_ms)
