"""The usual hour of a card, from an incremental histogram of the hours of its latest events.

The histogram is part of the slot, one byte per hour, and covers the events from index HOURS_FROM
on; -1 means that it must be counted again. Counts are exact, so both ways give equal results.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from schemas.compiled import compiled, leaf
from schemas.features import HOUR
from stream_features.engine.state.entities import EVENTS, HOURS, HOURS_FROM

_COS: Final = np.cos(2 * np.pi * np.arange(12) / 24)
_SIN: Final = np.sin(2 * np.pi * np.arange(12) / 24)


@leaf
def hour_of(time):  # type: ignore[no-untyped-def]
    """Return the hour of day, 0-23 UTC."""
    return (time // HOUR) % 24


@leaf
def count_hour(table, slot, time, sign):  # type: ignore[no-untyped-def]
    """Add an event's hour to the histogram, or take it away."""
    hour = hour_of(time)
    table.slots[slot, HOURS + hour // 8] += sign << (8 * (hour % 8))


@compiled
def _recount(table, slot, times, low):  # type: ignore[no-untyped-def]
    table.slots[slot, HOURS : HOURS + 3] = 0
    for index in range(low, len(times)):
        count_hour(table, slot, times[index], 1)


@leaf
def hour_deviation(table, slot, times, low, time):  # type: ignore[no-untyped-def]
    """Return the circular distance (h) of the hour of `time` from the mean hour of times[low:].

    It is NaN for fewer than three events, or if their directions cancel out. `times` are the
    entity's oldest events.
    Source: Mardia and Jupp, Directional Statistics (2000), section 2.2.
    """
    begun = table.slots[slot, HOURS_FROM]
    whole = len(times) == table.slots[slot, EVENTS]
    if not whole or begun < 0 or begun > low:
        _recount(table, slot, times, low)
    else:
        for index in range(begun, low):
            count_hour(table, slot, times[index], -1)
    table.slots[slot, HOURS_FROM] = low if whole else -1
    n = len(times) - low
    if n < 3:
        return np.nan
    x = 0.0
    y = 0.0
    for hour in range(12):
        opposite = hour + 12
        many = (table.slots[slot, HOURS + hour // 8] >> (8 * (hour % 8))) & 255
        few = (table.slots[slot, HOURS + opposite // 8] >> (8 * (opposite % 8))) & 255
        surplus = many - few
        x += surplus * _COS[hour]
        y += surplus * _SIN[hour]
    if np.sqrt(x * x + y * y) / n < 1e-9:
        return np.nan
    mean = np.arctan2(y, x) * 24 / (2 * np.pi)
    distance = abs(hour_of(time) - mean) % 24
    return min(distance, 24 - distance)
