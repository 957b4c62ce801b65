"""Bounded state of hot entities: the oldest events are folded into aligned tiles.

An entity with more than `limit` events keeps the newest half exactly. The others go into tiles
whose width depends on their age, so that the far edge of a window W is never rounded by more than
W/24. Tile widths nest, so a tile that ages merges into a coarser one. A tile stands at the time of
its newest event. The values of folded events are kept in a bounded table of (value, last seen).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from schemas.compiled import compiled
from schemas.features import DAY, HOUR, MINUTE
from stream_features.engine.state.entities import (
    CARD_COLUMNS,
    EVENTS,
    HOT_ROW,
    HOT_USED,
    MARK_START,
    MARK_TIME,
    MARKED,
    MARKS,
    NEWEST,
    SEEN,
    SEEN_COLUMN,
    SEEN_COUNT,
    SEEN_TIME,
    SEEN_VALUE,
    TILE_COUNT,
    TILE_EVENTS,
    TILE_FRAUDS,
    TILE_MAX,
    TILE_SUM,
    TILE_TIME,
    TILES,
    TIME,
    VALUE,
    column_of,
    drop_oldest,
    prune,
    swap_marks,
)

FINE: Final = 10_000
MEDIUM: Final = 150_000


@compiled
def tile_width(age, wide, delay):  # type: ignore[no-untyped-def]
    """Return the tile width (ms) for events of `age` ms; cards are `wide`."""
    if wide:
        if age <= 5 * MINUTE:
            return FINE
        if age <= HOUR:
            return MEDIUM
        if age <= DAY:
            return HOUR
        if age <= 7 * DAY:
            return 6 * HOUR
        return DAY
    if age <= HOUR:
        return MEDIUM
    if age <= delay + DAY:
        return HOUR
    if age <= delay + 7 * DAY:
        return 6 * HOUR
    return DAY


@compiled
def _make_hot(table, slot):  # type: ignore[no-untyped-def]
    if table.slots[slot, HOT_ROW] < 0:
        row = table.used[HOT_USED]
        table.used[HOT_USED] += 1
        table.hot[row, TILE_COUNT] = 0
        table.hot[row, SEEN_COUNT] = 0
        table.slots[slot, HOT_ROW] = row
    return table.slots[slot, HOT_ROW]


@compiled
def add_tile(table, row, time, events, total, largest, m2, frauds):  # type: ignore[no-untyped-def]
    """Insert a tile in order of time; in a full row, the two oldest are merged first."""
    count = table.hot[row, TILE_COUNT]
    if count == TILES:
        _merge_into(table, row, 0, 1)
        for index in range(1, count - 1):
            _move_tile(table, row, index + 1, index)
        count -= 1
    place = count
    while place > 0 and table.tiles[row, TILE_TIME, place - 1] > time:
        _move_tile(table, row, place - 1, place)
        place -= 1
    table.tiles[row, TILE_TIME, place] = time
    table.tiles[row, TILE_EVENTS, place] = events
    table.tiles[row, TILE_SUM, place] = total
    table.tiles[row, TILE_MAX, place] = largest
    table.m2[row, place] = m2
    table.tiles[row, TILE_FRAUDS, place] = frauds
    table.hot[row, TILE_COUNT] = count + 1


@compiled
def _move_tile(table, row, source, target):  # type: ignore[no-untyped-def]
    table.tiles[row, TILE_TIME, target] = table.tiles[row, TILE_TIME, source]
    table.tiles[row, TILE_EVENTS, target] = table.tiles[row, TILE_EVENTS, source]
    table.tiles[row, TILE_SUM, target] = table.tiles[row, TILE_SUM, source]
    table.tiles[row, TILE_MAX, target] = table.tiles[row, TILE_MAX, source]
    table.m2[row, target] = table.m2[row, source]
    table.tiles[row, TILE_FRAUDS, target] = table.tiles[row, TILE_FRAUDS, source]


@compiled
def _merge_into(table, row, target, source):  # type: ignore[no-untyped-def]
    """Merge tile `source` into `target`. Moments by Chan, Golub and LeVeque (1979)."""
    n = table.tiles[row, TILE_EVENTS, target]
    m = table.tiles[row, TILE_EVENTS, source]
    if n > 0 and m > 0:
        delta = table.tiles[row, TILE_SUM, source] / m - table.tiles[row, TILE_SUM, target] / n
        table.m2[row, target] += table.m2[row, source] + delta * delta * n * m / (n + m)
    else:
        table.m2[row, target] += table.m2[row, source]
    # It is stored as float32, so memory must hold no more for live to equal offline.
    table.m2[row, target] = np.float32(table.m2[row, target])
    table.tiles[row, TILE_EVENTS, target] = n + m
    table.tiles[row, TILE_SUM, target] += table.tiles[row, TILE_SUM, source]
    table.tiles[row, TILE_MAX, target] = max(
        table.tiles[row, TILE_MAX, target], table.tiles[row, TILE_MAX, source]
    )
    table.tiles[row, TILE_FRAUDS, target] += table.tiles[row, TILE_FRAUDS, source]
    table.tiles[row, TILE_TIME, target] = max(
        table.tiles[row, TILE_TIME, target], table.tiles[row, TILE_TIME, source]
    )


@compiled
def _compact_tiles(table, slot, row, keep, delay):  # type: ignore[no-untyped-def]
    """Merge neighbouring tiles that share an aligned bucket; drop those out of retention."""
    wide = table.columns == CARD_COLUMNS
    newest = table.slots[slot, NEWEST]
    kept = 0
    for index in range(table.hot[row, TILE_COUNT]):
        time = table.tiles[row, TILE_TIME, index]
        if time <= newest - keep:
            continue
        if kept > 0:
            before = table.tiles[row, TILE_TIME, kept - 1]
            width = tile_width(newest - time, wide, delay)
            if before // width == time // width and width == tile_width(
                newest - before, wide, delay
            ):
                _merge_into(table, row, kept - 1, index)
                continue
        if kept != index:
            _move_tile(table, row, index, kept)
        kept += 1
    table.hot[row, TILE_COUNT] = kept


@compiled
def see(table, row, column, value, time):  # type: ignore[no-untyped-def]
    """Record that `value` was last seen at `time`; replaces the value seen longest ago if full."""
    if value == 0:
        return
    count = table.hot[row, SEEN_COUNT]
    oldest = 0
    for index in range(count):
        if (
            table.seen[row, SEEN_VALUE, index] == value
            and table.seen[row, SEEN_COLUMN, index] == column
        ):
            table.seen[row, SEEN_TIME, index] = max(table.seen[row, SEEN_TIME, index], time)
            return
        if table.seen[row, SEEN_TIME, index] < table.seen[row, SEEN_TIME, oldest]:
            oldest = index
    if count < SEEN:
        oldest = count
        table.hot[row, SEEN_COUNT] = count + 1
    elif table.seen[row, SEEN_TIME, oldest] > time:
        return
    table.seen[row, SEEN_COLUMN, oldest] = column
    table.seen[row, SEEN_VALUE, oldest] = value
    table.seen[row, SEEN_TIME, oldest] = time


@compiled
def fold(table, slot, keep, delay):  # type: ignore[no-untyped-def]
    """Fold the older part of the events of `slot` if there are more than the limit.

    `keep` is how far the state reaches back from the newest event (ms). Returns whether it folded
    anything.
    """
    prune(table, slot, table.slots[slot, NEWEST] - keep)
    count = table.slots[slot, EVENTS]
    if count <= table.limit:
        return False
    row = _make_hot(table, slot)
    gone = count - table.limit // 2
    times = column_of(table, slot, TIME, gone)
    values = column_of(table, slot, VALUE, gone)
    has_amounts = not (table.distinct > 0 and table.first_distinct == VALUE)
    for index in range(gone):
        amount = values[index] if has_amounts else np.int64(0)
        add_tile(table, row, times[index], 1, amount, amount, 0.0, 0)
        if table.hot[row, TILE_COUNT] == TILES:
            _compact_tiles(table, slot, row, keep, delay)
        for c in range(table.distinct):
            value = column_of(table, slot, table.first_distinct + c, gone)[index]
            see(table, row, c, value, times[index])
    _compact_tiles(table, slot, row, keep, delay)
    drop_oldest(table, slot, gone)
    return True


@compiled
def fold_frauds(table, slot, keep, delay):  # type: ignore[no-untyped-def]
    """Fold the older half of the fraud marks of a shared entity into tiles when the list is full."""
    count = table.slots[slot, MARKED]
    if count < MARKS:
        return False
    row = _make_hot(table, slot)
    start = table.slots[slot, MARK_START]
    for index in range(start + 1, start + count):
        place = index
        while place > start and table.marks[MARK_TIME, place - 1] > table.marks[MARK_TIME, place]:
            swap_marks(table, place - 1, place)
            place -= 1
    half = count // 2
    for rank in range(half):
        add_tile(table, row, table.marks[MARK_TIME, start + rank], 0, 0, 0, 0.0, 1)
        if table.hot[row, TILE_COUNT] == TILES:
            _compact_tiles(table, slot, row, keep, delay)
    for rank in range(half, count):
        swap_marks(table, start + rank, start + rank - half)
    table.slots[slot, MARKED] = count - half
    _compact_tiles(table, slot, row, keep, delay)
    return True
