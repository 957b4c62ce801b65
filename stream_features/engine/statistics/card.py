"""Statistics of one card as of one transaction, for all windows."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from schemas.compiled import compiled, leaf
from schemas.features import DAY, HOUR, MINUTE
from stream_features.engine.plan import STATISTICS
from stream_features.engine.state.entities import (
    FIRST,
    FLAGS,
    HOT_ROW,
    NEWEST,
    POSITION,
    SEEN_COLUMN,
    SEEN_COUNT,
    SEEN_TIME,
    SEEN_VALUE,
    TILE_COUNT,
    TILE_EVENTS,
    TILE_MAX,
    TILE_SUM,
    TILE_TIME,
    TIME,
    VALUE,
    column_of,
)
from stream_features.engine.statistics.hours import hour_deviation
from stream_features.engine.statistics.moments import squares_of, with_tiles
from stream_features.engine.statistics.scans import count_at_most, last_equal, window_starts

_ROWS = {name: index for index, name in enumerate(STATISTICS["card"])}
COUNT: Final = _ROWS["count"]
SUM: Final = _ROWS["sum"]
MEAN: Final = _ROWS["mean"]
MAX: Final = _ROWS["max"]
SMALL: Final = _ROWS["small_count"]
PRIOR_STD: Final = _ROWS["prior_std"]
DEVIATION: Final = _ROWS["deviation"]
RATIO: Final = _ROWS["ratio"]
RANK: Final = _ROWS["rank"]
DISTINCT: Final = _ROWS["distinct_merchants"]
IS_NEW: Final = _ROWS["merchant_is_new"]
NOVELTIES: Final = 4
"""The first four distinct columns, in their order, also have an is_new feature."""
HOUR_DEVIATION: Final = _ROWS["hour_deviation"]
SINCE_LAST: Final = _ROWS["seconds_since_last"]
AGE: Final = _ROWS["age"]
KM: Final = _ROWS["km_from_last"]
SPEED: Final = _ROWS["speed"]

SMALL_AMOUNT: Final = 500
"""Amounts below 5.00 (in minor units) suggest card testing."""
EARTH_RADIUS_KM: Final = 6371.0088


class CardEvent(NamedTuple):
    """One transaction as scalars.

    `position` is packed, 0 if missing; `transaction` is 48 bits of its hash. `counted` is 0 for a
    refund or reversal, which is in no window, and 1 for all others.
    """

    time: Any
    amount: Any
    position: Any
    transaction: Any
    counted: Any


@compiled
def great_circle_km(one, other):  # type: ignore[no-untyped-def]
    """Return the distance of two packed positions by the haversine formula (Sinnott, 1984)."""
    half = 2**31
    mask = 2**32 - 1
    lat1 = np.radians((((one >> 32) & mask) - half) / 1e7)
    lon1 = np.radians(((one & mask) - half) / 1e7)
    lat2 = np.radians((((other >> 32) & mask) - half) / 1e7)
    lon2 = np.radians(((other & mask) - half) / 1e7)
    a = (
        np.sin((lat2 - lat1) / 2) ** 2
        + np.cos(lat1) * np.cos(lat2) * np.sin((lon2 - lon1) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(min(1.0, a)))


@leaf
def _totals(values, flags, starts, scratch, n_windows, distinct, amount, counted):  # type: ignore[no-untyped-def]
    """Compute count, sum, max, small and smaller amounts, and distinct values, newest events first.

    A sum over flags gives the numbers of distinct values of all columns, one in each byte. The
    number of smaller amounts is put in the place of the rank. The largest of no amounts is -1.
    """
    total = amount * counted
    largest = amount if counted == 1 else np.int64(-1)
    small = counted if amount < SMALL_AMOUNT else 0
    smaller = 0
    bits = 0
    upper = len(values)
    for w in range(n_windows):
        segment = values[starts[w] : upper]
        segment_flags = flags[starts[w] : upper]
        for index in range(len(segment)):
            value = segment[index]
            total += value
            largest = max(largest, value)
            small += 1 if value < SMALL_AMOUNT else 0
            smaller += 1 if value < amount else 0
            bits += segment_flags[index]
        upper = starts[w]
        scratch[COUNT * n_windows + w] = len(values) - upper + counted
        scratch[SUM * n_windows + w] = total
        scratch[MAX * n_windows + w] = largest
        scratch[SMALL * n_windows + w] = small
        scratch[RANK * n_windows + w] = smaller
        distinct[w] = bits


@leaf
def _distinct(table, slot, count, plan, starts, distinct, own, last, scratch, counted):  # type: ignore[no-untyped-def]
    """Compute distinct values and novelty; `own` holds x's value in each column, 0 if missing.

    Fills `last` with the index of the newest event with the same value, or -1. If that event is
    within the window, x's value has been counted already. Without `counted`, it does not count.
    """
    n_windows = len(plan.windows)
    for c in range(table.distinct):
        newest = -1
        has = 0
        if own[c] != 0:
            has = 1
            newest = last_equal(column_of(table, slot, table.first_distinct + c, count), own[c])
        last[c] = newest
        for w in range(n_windows):
            repeated = 1 if newest >= starts[w] else 0
            among = (distinct[w] >> (8 * c)) & 255
            scratch[(DISTINCT + c) * n_windows + w] = among + counted * (has - repeated)
        if c < NOVELTIES:
            for w in range(n_windows):
                new = 0.0 if newest >= starts[w] else 1.0
                scratch[(IS_NEW + c) * n_windows + w] = new if has == 1 else np.nan


@compiled
def _add_folded(table, slot, count, plan, floor, own, scratch, time, counted):  # type: ignore[no-untyped-def]
    """Add tiles and seen values to counts, sums, maxima, distinct values and novelty."""
    row = table.slots[slot, HOT_ROW]
    n_windows = len(plan.windows)
    tile_times = table.tiles[row, TILE_TIME, : table.hot[row, TILE_COUNT]]
    last = count_at_most(tile_times, time)
    for w in range(n_windows):
        events = 0
        total = 0
        largest = np.int64(scratch[MAX * n_windows + w])
        first = count_at_most(tile_times, max(floor, time - plan.windows[w]))
        many = table.tiles[row, TILE_EVENTS, first:last]
        sums = table.tiles[row, TILE_SUM, first:last]
        maxima = table.tiles[row, TILE_MAX, first:last]
        for tile in range(len(many)):
            events += many[tile]
            total += sums[tile]
            largest = max(largest, maxima[tile])
        scratch[COUNT * n_windows + w] += events
        scratch[SUM * n_windows + w] += total
        scratch[MAX * n_windows + w] = largest
    times = column_of(table, slot, TIME, count)
    for entry in range(table.hot[row, SEEN_COUNT]):
        at = table.seen[row, SEEN_TIME, entry]
        if at > time or at <= floor:
            continue
        c = table.seen[row, SEEN_COLUMN, entry]
        value = table.seen[row, SEEN_VALUE, entry]
        newest = last_equal(column_of(table, slot, table.first_distinct + c, count), value)
        newer = times[newest] if newest >= 0 else np.int64(-(2**62))
        if value == own[c] and counted == 1:
            newer = time
        for w in range(n_windows):
            edge = time - plan.windows[w]
            if at <= edge:
                continue
            if newer <= edge:
                scratch[(DISTINCT + c) * n_windows + w] += 1
            if value == own[c] and c < NOVELTIES:
                scratch[(IS_NEW + c) * n_windows + w] = 0.0


@leaf
def card_statistics(table, slot, count, plan, keep, work, own, x):  # type: ignore[no-untyped-def]
    """Fill scratch for transaction `x`, which is not yet part of the state.

    `count` events of the card are not newer than x, and their flags are those of the oldest `count`
    alone (see `mark_newest`). `own` (int64[5]) holds x's values of the distinct columns; `work.last` is
    filled with the index of the newest event that shares each. Amounts come out in major units,
    times in the units of the catalogue.
    """
    scratch = work.scratch
    starts = work.starts
    n_windows = len(plan.windows)
    floor = table.slots[slot, NEWEST] - keep
    times = column_of(table, slot, TIME, count)
    values = column_of(table, slot, VALUE, count)
    window_starts(times, x.time, floor, plan.windows, starts)
    _totals(values, column_of(table, slot, FLAGS, count), starts, scratch, n_windows, work.distinct, x.amount, x.counted)  # fmt: skip
    _distinct(table, slot, count, plan, starts, work.distinct, own, work.last, scratch, x.counted)  # fmt: skip
    hot = table.slots[slot, HOT_ROW] >= 0
    for w in range(n_windows):
        if plan.prior[w]:
            _prior(table, slot, values[starts[w] :], max(floor, x.time - plan.windows[w]), w, n_windows, scratch, x)  # fmt: skip
        if plan.hours[w]:
            scratch[HOUR_DEVIATION * n_windows + w] = hour_deviation(table, slot, times, starts[w], x.time)  # fmt: skip
    if hot:
        _add_folded(table, slot, count, plan, floor, own, scratch, x.time, x.counted)
    for w in range(n_windows):
        total = scratch[SUM * n_windows + w]
        scratch[MEAN * n_windows + w] = total / scratch[COUNT * n_windows + w] / 100
        scratch[SUM * n_windows + w] = total / 100
        largest = scratch[MAX * n_windows + w]
        scratch[MAX * n_windows + w] = largest / 100 if largest >= 0 else np.nan
    _since_last(table, slot, times, floor, n_windows, scratch, x)


@leaf
def _prior(table, slot, values, after, w, n_windows, scratch, x):  # type: ignore[no-untyped-def]
    """Compute the moments of the prior amounts: `values` and the tiles after `after`."""
    n = len(values)
    exact = n
    total = np.int64(scratch[SUM * n_windows + w]) - x.amount * x.counted
    m2 = squares_of(values, total)
    row = table.slots[slot, HOT_ROW]
    if row >= 0:
        n, total, m2 = with_tiles(table, row, n, total, m2, after, x.time)
    std = np.nan
    deviation = np.nan
    ratio = np.nan
    rank = np.nan
    if n >= 1 and total > 0:
        ratio = x.amount * n / total
    if n >= 2:
        std = np.sqrt(max(m2, 0.0) / (n - 1)) / 100
        if std > 0:
            deviation = (x.amount - total / n) / 100 / std
    if exact > 0:
        rank = scratch[RANK * n_windows + w] / exact
    scratch[PRIOR_STD * n_windows + w] = std
    scratch[DEVIATION * n_windows + w] = deviation
    scratch[RATIO * n_windows + w] = ratio
    scratch[RANK * n_windows + w] = rank


@leaf
def _since_last(table, slot, times, floor, n_windows, scratch, x):  # type: ignore[no-untyped-def]
    count = len(times)
    newest = times[count - 1] if count > 0 else np.int64(-(2**62))
    row = table.slots[slot, HOT_ROW]
    if row >= 0:
        tile_times = table.tiles[row, TILE_TIME, : table.hot[row, TILE_COUNT]]
        last = count_at_most(tile_times, x.time) - 1
        if last >= 0 and tile_times[last] > floor:
            newest = max(newest, tile_times[last])
    since = np.nan
    if newest > -(2**62):
        since = (x.time - newest) / 1000
    scratch[SINCE_LAST * n_windows] = since
    scratch[AGE * n_windows] = (x.time - min(table.slots[slot, FIRST], x.time)) / DAY
    km = np.nan
    speed = np.nan
    if x.position != 0:
        positions = column_of(table, slot, POSITION, count)
        index = count - 1
        while index >= 0 and positions[index] == 0:
            index -= 1
        if index >= 0:
            km = great_circle_km(positions[index], x.position)
            hours = max(x.time - times[index], MINUTE) / HOUR
            speed = km / hours
    scratch[KM * n_windows] = km
    scratch[SPEED * n_windows] = speed
