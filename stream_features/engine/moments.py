"""Mean and squared deviations of integer amounts over a run of events and tiles.

Amounts are integers in minor units, so sums are exact; deviations are taken from an integer near
the mean, so that their squares are exact too as long as no amount lies 950,000 major units from it
(float64 holds integers up to 2^53). The order of events therefore cannot show.
"""

from __future__ import annotations

from stream_features.engine.compiled import compiled, leaf
from stream_features.engine.scans import count_at_most, squared_deviations
from stream_features.engine.table import (
    TILE_COUNT,
    TILE_EVENTS,
    TILE_SUM,
    TILE_TIME,
)


@leaf
def squares_of(values, total):  # type: ignore[no-untyped-def]
    """Return the sum of squared deviations from the mean, in squared minor units.

    `values` is a slice of amounts, `total` their sum.
    """
    n = len(values)
    if n == 0:
        return 0.0
    reference = total // n
    rest = float(total - n * reference)
    return squared_deviations(values, reference) - rest * rest / n


@compiled
def with_tiles(table, row, n, total, m2, after, until):  # type: ignore[no-untyped-def]
    """Return (n, sum, squares) with the tiles of a hot row in (after, until] added."""
    times = table.tiles[row, TILE_TIME, : table.hot[row, TILE_COUNT]]
    for tile in range(count_at_most(times, after), count_at_most(times, until)):
        events = table.tiles[row, TILE_EVENTS, tile]
        if events == 0:
            continue
        if n > 0:
            delta = table.tiles[row, TILE_SUM, tile] / events - total / n
            m2 += delta * delta * n * events / (n + events)
        m2 += table.m2[row, tile]
        n += events
        total += table.tiles[row, TILE_SUM, tile]
    return n, total, m2
