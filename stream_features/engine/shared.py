"""Statistics of one merchant, device or address as of one transaction."""

from __future__ import annotations

from typing import Final

import numpy as np

from schemas.features import DAY
from stream_features.engine.compiled import compiled, leaf
from stream_features.engine.distinct import insert, time_of
from stream_features.engine.moments import prior_moments
from stream_features.engine.plan import STATISTICS
from stream_features.engine.table import (
    FIRST,
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
    end_at,
)

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


@leaf
def _tile_total(table, row, after, until, frauds):  # type: ignore[no-untyped-def]
    """Number of folded events, or of folded frauds, with after < time <= until."""
    total = 0
    if row >= 0:
        for tile in range(table.hot[row, TILE_COUNT]):
            if after < table.tiles[row, TILE_TIME, tile] <= until:
                total += (
                    table.tiles[row, TILE_FRAUDS, tile]
                    if frauds
                    else table.tiles[row, TILE_EVENTS, tile]
                )
    return total


@leaf
def _fraud_total(table, slot, row, after, until):  # type: ignore[no-untyped-def]
    total = _tile_total(table, row, after, until, True)
    start = table.slots[slot, MARK_START]
    for index in range(start, start + table.slots[slot, MARKED]):
        if after < table.marks[MARK_TIME, index] <= until:
            total += 1
    return total


@leaf
def _delayed(table, slot, row, plan, w, label_delay, prior, weight, floor, scratch, time):  # type: ignore[no-untyped-def]
    """Frauds and transactions of the window that ended one label delay ago."""
    n_windows = len(plan.windows)
    until = time - label_delay
    after = max(until - plan.windows[w], floor)
    low = end_at(table, slot, after)
    high = max(low, end_at(table, slot, until))
    transactions = high - low + _tile_total(table, row, after, until, False)
    frauds = _fraud_total(table, slot, row, after, until)
    base = plan.offset
    scratch[base + FRAUD_COUNT * n_windows + w] = frauds
    scratch[base + FRAUD_RATE * n_windows + w] = frauds / transactions if transactions > 0 else 0.0
    scratch[base + RISK * n_windows + w] = (frauds + weight * prior) / (transactions + weight)


@compiled
def _distinct(table, row, plan, floor, high, starts, hashes, scratch, x):  # type: ignore[no-untyped-def]
    """Distinct cards: the value column holds card hashes."""
    base = plan.offset + DISTINCT * len(plan.windows)
    n_windows = len(plan.windows)
    hashes.generation[0] += 1
    insert(hashes, 0, x.card, x.time)
    found = 1
    upper = high
    for w in range(n_windows):
        if plan.windows[w] > plan.distinct_until[0]:
            break
        for index in range(upper - 1, starts[w] - 1, -1):
            if insert(hashes, 0, table.pool[VALUE, index], table.pool[TIME, index]):
                found += 1
        upper = starts[w]
        scratch[base + w] = found
    if row < 0:
        return
    for entry in range(table.hot[row, SEEN_COUNT]):
        time = table.seen[row, SEEN_TIME, entry]
        if time > x.time or time <= floor:
            continue
        newer = time_of(hashes, 0, table.seen[row, SEEN_VALUE, entry], np.int64(-(2**62)))
        for w in range(n_windows):
            edge = x.time - plan.windows[w]
            if plan.windows[w] <= plan.distinct_until[0] and newer <= edge < time:
                scratch[base + w] += 1


@leaf
def shared_statistics(  # type: ignore[no-untyped-def]
    table, slot, plan, keep, label_delay, prior, weight, amounts, hashes, starts, scratch, x
):
    """Fill the block of a shared entity for transaction `x`, which is not in its state.

    `amounts`: the value column holds amounts (merchants), else card hashes. Amounts come out in
    major units. A slot of -1 (the transaction names no such entity) fills the block with NaN.
    """
    base = plan.offset
    n_windows = len(plan.windows)
    if slot < 0:
        scratch[base : base + (AGE + 1) * n_windows] = np.nan
        return
    floor = table.slots[slot, NEWEST] - keep
    high = end_at(table, slot, x.time)
    low = min(high, end_at(table, slot, floor))
    row = table.slots[slot, HOT_ROW]
    for w in range(n_windows):
        edge = max(floor, x.time - plan.windows[w])
        starts[w] = max(low, min(high, end_at(table, slot, edge)))
        folded = _tile_total(table, row, edge, x.time, False)
        scratch[base + COUNT * n_windows + w] = high - starts[w] + folded + 1
        if plan.delayed[w]:
            _delayed(
                table,
                slot,
                row,
                plan,
                w,
                label_delay,
                prior,
                weight,
                floor,
                scratch,
                x.time,
            )
        if amounts and plan.prior[w]:
            n, total, m2 = prior_moments(table, row, starts[w], high, edge, x.time)
            std = np.sqrt(m2 / (n - 1)) / 100 if n >= 2 else np.nan
            scratch[base + SUM * n_windows + w] = (total + x.amount) / 100
            scratch[base + MEAN * n_windows + w] = (total + x.amount) / (n + 1) / 100
            scratch[base + PRIOR_STD * n_windows + w] = std
            scratch[base + DEVIATION * n_windows + w] = (
                (x.amount - total / n) / 100 / std if n >= 2 and std > 0 else np.nan
            )
    if not amounts and plan.distinct_until[0] > 0:
        _distinct(table, row, plan, floor, high, starts, hashes, scratch, x)
    scratch[base + AGE * n_windows] = (x.time - min(table.slots[slot, FIRST], x.time)) / DAY
