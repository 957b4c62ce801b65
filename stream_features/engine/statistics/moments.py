"""Mean and squared deviations of integer amounts over a run of events and tiles.

Amounts are integers in minor units, so sums are exact; deviations are taken from an integer near
the mean, so that their squares are exact too as long as no amount lies 950,000 major units from it
(float64 holds integers up to 2^53). So the order of events does not affect the result.
"""

from __future__ import annotations

from schemas.compiled import compiled, leaf
from stream_features.engine.state.entities import TILE_COUNT, TILE_EVENTS, TILE_SUM, TILE_TIME
from stream_features.engine.statistics.scans import count_at_most, squared_deviations


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
    """Return (n, sum, squares) with the tiles of a hot row in (after, until] added.

    A tile's own squares are taken from its mean; moving them to the common one adds, by the
    parallel axis theorem, n times the square of the distance.
    """
    times = table.tiles[row, TILE_TIME, : table.hot[row, TILE_COUNT]]
    first = count_at_most(times, after)
    last = max(first, count_at_most(times, until))
    events = table.tiles[row, TILE_EVENTS, first:last]
    sums = table.tiles[row, TILE_SUM, first:last]
    squares = table.m2[row, first:last]
    all_events = n
    all_total = total
    for tile in range(len(events)):
        all_events += events[tile]
        all_total += sums[tile]
    if all_events == n:
        return n, total, m2
    reference = all_total // all_events
    distance = float(total - n * reference)
    m2 += distance * distance / max(n, 1)
    for tile in range(len(events)):
        distance = float(sums[tile] - events[tile] * reference)
        m2 += squares[tile] + distance * distance / max(events[tile], 1)
    rest = float(all_total - all_events * reference)
    return all_events, all_total, m2 - rest * rest / all_events
