"""Statistics of one merchant, device or IP address as of one transaction."""

from __future__ import annotations

from typing import Final

import numpy as np

from schemas.compiled import compiled, leaf
from schemas.features import DAY
from stream_features.engine.plan import STATISTICS
from stream_features.engine.state.entities import (
    FIRST,
    FLAGS,
    HOT_ROW,
    MARK_START,
    MARK_TIME,
    MARKED,
    NEWEST,
    SEEN_COUNT,
    SEEN_TIME,
    SEEN_VALUE,
    TILE_COUNT,
    TILE_EVENTS,
    TILE_FRAUDS,
    TILE_TIME,
    TIME,
    VALUE,
    column_of,
)
from stream_features.engine.statistics.moments import squares_of, with_tiles
from stream_features.engine.statistics.scans import count_at_most, last_equal, window_starts

_ROWS = {name: index for index, name in enumerate(STATISTICS["merchant"])}
COUNT: Final = _ROWS["count"]
SUM: Final = _ROWS["sum"]
MEAN: Final = _ROWS["mean"]
PRIOR_STD: Final = _ROWS["prior_std"]
DEVIATION: Final = _ROWS["deviation"]
FRAUD_COUNT: Final = _ROWS["fraud_count"]
FRAUD_RATE: Final = _ROWS["fraud_rate"]
RISK: Final = _ROWS["risk"]
DISTINCT: Final = _ROWS["distinct_cards"]
AGE: Final = _ROWS["age"]


@compiled
def _count_tiles(table, row, until, floor, windows, work):  # type: ignore[no-untyped-def]
    """Fill `work.folded` and `work.folded_frauds`: events and frauds of tiles in windows to `until`."""
    times = table.tiles[row, TILE_TIME, : table.hot[row, TILE_COUNT]]
    upper = count_at_most(times, until)
    window_starts(times[:upper], until, floor, windows, work.folded)
    events = 0
    frauds = 0
    for w in range(len(windows)):
        lower = work.folded[w]
        segment = table.tiles[row, TILE_EVENTS, lower:upper]
        for tile in range(len(segment)):
            events += segment[tile]
        segment = table.tiles[row, TILE_FRAUDS, lower:upper]
        for tile in range(len(segment)):
            frauds += segment[tile]
        upper = lower
        work.folded[w] = events
        work.folded_frauds[w] = frauds


@leaf
def _delayed(table, slot, times, plan, floor, work, time):  # type: ignore[no-untyped-def]
    """Compute the frauds and transactions of each window that ended one label delay ago."""
    n_windows = len(plan.windows)
    until = time - plan.label_delay
    old = times[: count_at_most(times, until)]
    row = table.slots[slot, HOT_ROW]
    start = table.slots[slot, MARK_START]
    marks = table.marks[MARK_TIME, start : start + table.slots[slot, MARKED]]
    scratch = work.scratch
    if row >= 0:
        _count_tiles(table, row, until, floor, plan.windows, work)
    outside = 0
    for w in range(n_windows - 1, -1, -1):
        if not plan.delayed[w]:
            continue
        after = max(until - plan.windows[w], floor)
        outside += count_at_most(old[outside:], after)
        transactions = len(old) - outside
        frauds = 0
        if len(marks) > 0:
            frauds = max(0, count_at_most(marks, until) - count_at_most(marks, after))
        if row >= 0:
            transactions += work.folded[w]
            frauds += work.folded_frauds[w]
        scratch[FRAUD_COUNT * n_windows + w] = frauds
        # Folded events are rounded to tiles at the edges, frauds are not.
        rate = min(frauds / transactions, 1.0) if transactions > 0 else 0.0
        scratch[FRAUD_RATE * n_windows + w] = rate
        scratch[RISK * n_windows + w] = (frauds + plan.risk_weight * plan.risk_prior) / (
            transactions + plan.risk_weight
        )


@leaf
def _prior(table, slot, values, after, w, n_windows, scratch, time, amount, counted):  # type: ignore[no-untyped-def]
    """Compute the moments of the prior amounts: `values` and the tiles after `after`."""
    n = len(values)
    total = 0
    for index in range(n):
        total += values[index]
    m2 = squares_of(values, total)
    row = table.slots[slot, HOT_ROW]
    if row >= 0:
        n, total, m2 = with_tiles(table, row, n, total, m2, after, time)
    std = np.sqrt(max(m2, 0.0) / (n - 1)) / 100 if n >= 2 else np.nan
    scratch[SUM * n_windows + w] = (total + amount * counted) / 100
    scratch[MEAN * n_windows + w] = (total + amount * counted) / (n + counted) / 100
    scratch[PRIOR_STD * n_windows + w] = std
    scratch[DEVIATION * n_windows + w] = (
        (amount - total / n) / 100 / std if n >= 2 and std > 0 else np.nan
    )


@compiled
def _add_seen(table, slot, count, plan, floor, scratch, time, card, counted):  # type: ignore[no-untyped-def]
    """Add the cards that occur only among folded events."""
    row = table.slots[slot, HOT_ROW]
    n_windows = len(plan.windows)
    times = column_of(table, slot, TIME, count)
    values = column_of(table, slot, VALUE, count)
    for entry in range(table.hot[row, SEEN_COUNT]):
        at = table.seen[row, SEEN_TIME, entry]
        if at > time or at <= floor:
            continue
        value = table.seen[row, SEEN_VALUE, entry]
        last = last_equal(values, value)
        newer = times[last] if last >= 0 else np.int64(-(2**62))
        if value == card and counted == 1:
            newer = time
        for w in range(n_windows):
            if newer <= time - plan.windows[w] < at:
                scratch[DISTINCT * n_windows + w] += 1


@leaf
def _distinct(table, slot, count, plan, floor, starts, scratch, time, card, counted):  # type: ignore[no-untyped-def]
    """Count distinct cards; return the index of the newest event of `card`, or -1."""
    n_windows = len(plan.windows)
    flags = column_of(table, slot, FLAGS, count)
    last = last_equal(column_of(table, slot, VALUE, count), card)
    found = counted
    upper = count
    for w in range(n_windows):
        segment = flags[starts[w] : upper]
        for index in range(len(segment)):
            found += segment[index]
        upper = starts[w]
        scratch[DISTINCT * n_windows + w] = found - (counted if last >= upper else 0)
    if table.slots[slot, HOT_ROW] >= 0:
        _add_seen(table, slot, count, plan, floor, scratch, time, card, counted)
    return last


@leaf
def shared_statistics(table, slot, count, plan, keep, work, time, value, counted):  # type: ignore[no-untyped-def]
    """Fill scratch for a transaction at `time` that is not yet part of the entity's state.

    `counted` is 0 for a refund or reversal, which is in no window, and 1 for all others.

    `count` events of the entity are not newer, and their flags are those of the oldest `count`
    alone (see `mark_newest`). `value` is the amount for merchants, else the card. Amounts come out
    in major units. Returns the index of the newest event of the card, or -1 if there are none or
    cards are not counted.
    """
    scratch = work.scratch
    starts = work.starts
    n_windows = len(plan.windows)
    floor = table.slots[slot, NEWEST] - keep
    times = column_of(table, slot, TIME, count)
    values = column_of(table, slot, VALUE, count)
    row = table.slots[slot, HOT_ROW]
    if row >= 0:
        _count_tiles(table, row, time, floor, plan.windows, work)
    window_starts(times, time, floor, plan.windows, starts)
    for w in range(n_windows):
        after = max(floor, time - plan.windows[w])
        inside = count - starts[w] + counted
        if row >= 0:
            inside += work.folded[w]
        scratch[COUNT * n_windows + w] = inside
        if table.distinct == 0 and plan.prior[w]:
            _prior(table, slot, values[starts[w] :], after, w, n_windows, scratch, time, value, counted)  # fmt: skip
    _delayed(table, slot, times, plan, floor, work, time)
    scratch[AGE * n_windows] = (time - min(table.slots[slot, FIRST], time)) / DAY
    if table.distinct == 0:
        return -1
    return _distinct(table, slot, count, plan, floor, starts, scratch, time, value, counted)
