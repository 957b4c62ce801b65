"""Mean and squared deviations of integer amounts over a run of events and tiles.

Amounts are integers in minor units, so sums are exact; deviations are taken from an integer near
the mean, so that their squares are exact too as long as no amount lies 950,000 major units from it
(float64 holds integers up to 2^53). The order of events therefore cannot show.
"""

from __future__ import annotations

from stream_features.engine.compiled import leaf
from stream_features.engine.table import (
    TILE_COUNT,
    TILE_EVENTS,
    TILE_SUM,
    TILE_TIME,
    VALUE,
)


@leaf
def prior_moments(table, row, low, high, after, until):  # type: ignore[no-untyped-def]
    """Return (n, sum, m2) of events low..high-1 of the pool and of tiles in (after, until].

    `row` is the entity's hot row or -1; m2 is the sum of squared deviations from the mean, in
    squared minor units.
    """
    n = high - low
    total = 0
    for index in range(low, high):
        total += table.pool[VALUE, index]
    m2 = 0.0
    if n > 0:
        reference = total // n
        squares = 0.0
        for index in range(low, high):
            distance = float(table.pool[VALUE, index] - reference)
            squares += distance * distance
        rest = float(total - n * reference)
        m2 = squares - rest * rest / n
    if row >= 0:
        for tile in range(table.hot[row, TILE_COUNT]):
            time = table.tiles[row, TILE_TIME, tile]
            events = table.tiles[row, TILE_EVENTS, tile]
            if events == 0 or time <= after or time > until:
                continue
            if n > 0:
                delta = table.tiles[row, TILE_SUM, tile] / events - total / n
                m2 += delta * delta * n * events / (n + events)
            m2 += table.m2[row, tile]
            n += events
            total += table.tiles[row, TILE_SUM, tile]
    return n, total, max(m2, 0.0)
