"""State as bytes: a card is one blob; a shared entity is a folded part with records appended to it.

A card: events (2 bytes), marks (1), first seen and newest time (8 each), the columns of its
events, its marks, tiles and seen values. A shared entity: generation (4), first seen (8), events
(2), marks (1), tiles and seen values, the columns of its events and marks, then records that
any worker may append. `packing` describes the columns.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from schemas.compiled import compiled, leaf
from schemas.keys import EntityKind
from stream_features.engine.passes.shared_rows import put_event
from stream_features.engine.passes.workspace import RETENTION
from stream_features.engine.state.entities import (
    CAPACITY,
    CARD_COLUMNS,
    EVENTS,
    FIRST,
    FLAGS,
    HOT_ROW,
    HOT_USED,
    MARK_CAPACITY,
    MARK_START,
    MARK_TIME,
    MARK_TRANSACTION,
    MARKED,
    MARKS_USED,
    NEWEST,
    POOL_USED,
    SEEN_COLUMN,
    SEEN_COUNT,
    SEEN_TIME,
    SEEN_VALUE,
    START,
    TILE_COUNT,
    TILE_EVENTS,
    TILE_FRAUDS,
    TILE_MAX,
    TILE_SUM,
    TILE_TIME,
    TIME,
    VALUE,
    add_mark,
    column_of,
    events_until,
    mark_newest,
    remove_mark,
)
from stream_features.engine.state.fold import fold_frauds
from stream_features.engine.state.packing import (
    bits_of,
    float_of,
    get,
    get_column,
    get_times,
    put,
    put_column,
    put_times,
)

FORMAT: Final = 2
"""Version of the layout, to be raised with every change; other versions are never read."""
RECORD_SIZE: Final = 14
EVENT, FRAUD_ADDED, FRAUD_REMOVED = range(3)
KIND_SHIFT: Final = 46
"""A record is 6 bytes of time with its kind in the two top bits, then 8 bytes of value."""
NEVER: Final = -(2**62)
NEW_SHARED: Final = bytes(4) + (2**62).to_bytes(8, "little") + bytes(6)
"""The folded part of a shared entity that was never folded, in front of its records."""


def card_events(value: bytes) -> int:
    """Return the number of exact events of a stored card."""
    return int.from_bytes(value[:2], "little")


def is_seen_once(kind: EntityKind, value: bytes) -> bool:
    """Return whether a stored entity has had a single event."""
    if kind == "card":
        return card_events(value) == 1 and value[3:11] == value[11:19]
    return len(value) == len(NEW_SHARED) + RECORD_SIZE


@compiled
def _put_folded(table, slot, out, at):  # type: ignore[no-untyped-def]
    row = table.slots[slot, HOT_ROW]
    tiles = table.hot[row, TILE_COUNT] if row >= 0 else np.int64(0)
    seen = table.hot[row, SEEN_COUNT] if row >= 0 else np.int64(0)
    at = put(out, at, tiles, 2)
    at = put(out, at, seen, 1)
    if tiles > 0:
        at = put_times(out, at, table.tiles[row, TILE_TIME], tiles)
        at = put_column(out, at, table.tiles[row, TILE_EVENTS], tiles)
        at = put_column(out, at, table.tiles[row, TILE_SUM], tiles)
        if table.columns == CARD_COLUMNS:
            at = put_column(out, at, table.tiles[row, TILE_MAX], tiles)
        at = put_column(out, at, table.tiles[row, TILE_FRAUDS], tiles)
        bits = np.int64(0)
        for tile in range(tiles):
            bits |= bits_of(table.m2[row, tile])
        width = 4 if bits != 0 else 0
        at = put(out, at, width, 1)
        for tile in range(tiles):
            if table.tiles[row, TILE_EVENTS, tile] > 1:
                at = put(out, at, bits_of(table.m2[row, tile]), width)
    if seen > 0:
        earliest = table.seen[row, SEEN_TIME, 0]
        for index in range(1, seen):
            earliest = min(earliest, table.seen[row, SEEN_TIME, index])
        for index in range(seen):
            table.seen[row, SEEN_TIME, index] -= earliest
        at = put(out, at, earliest, 8)
        at = put_column(out, at, table.seen[row, SEEN_COLUMN], seen)
        at = put_column(out, at, table.seen[row, SEEN_VALUE], seen)
        at = put_column(out, at, table.seen[row, SEEN_TIME], seen)
        for index in range(seen):
            table.seen[row, SEEN_TIME, index] += earliest
    return at


@compiled
def _get_folded(table, slot, data, at):  # type: ignore[no-untyped-def]
    tiles = get(data, at, 2)
    seen = get(data, at + 2, 1)
    at += 3
    table.slots[slot, HOT_ROW] = -1
    if tiles + seen == 0:
        return at
    row = table.used[HOT_USED]
    table.used[HOT_USED] += 1
    table.slots[slot, HOT_ROW] = row
    table.hot[row, TILE_COUNT] = tiles
    table.hot[row, SEEN_COUNT] = seen
    if tiles > 0:
        at = get_times(data, at, table.tiles[row, TILE_TIME], tiles)
        at = get_column(data, at, table.tiles[row, TILE_EVENTS], tiles)
        at = get_column(data, at, table.tiles[row, TILE_SUM], tiles)
        if table.columns == CARD_COLUMNS:
            at = get_column(data, at, table.tiles[row, TILE_MAX], tiles)
        else:
            table.tiles[row, TILE_MAX, :tiles] = 0
        at = get_column(data, at, table.tiles[row, TILE_FRAUDS], tiles)
        width = np.int64(data[at])
        at += 1
        for tile in range(tiles):
            table.m2[row, tile] = 0.0
            if table.tiles[row, TILE_EVENTS, tile] > 1:
                table.m2[row, tile] = float_of(get(data, at, width))
                at += width
    if seen > 0:
        earliest = get(data, at, 8)
        at = get_column(data, at + 8, table.seen[row, SEEN_COLUMN], seen)
        at = get_column(data, at, table.seen[row, SEEN_VALUE], seen)
        at = get_column(data, at, table.seen[row, SEEN_TIME], seen)
        for index in range(seen):
            table.seen[row, SEEN_TIME, index] += earliest
    return at


@leaf
def _put_flags(out, at, flags):  # type: ignore[no-untyped-def]
    """Pack a card's flags, one byte per event."""
    for index in range(len(flags)):
        code = flags[index] >> 35 & 32
        for c in range(5):
            code |= flags[index] >> (7 * c) & (1 << c)
        out[at + index] = code
    return at + len(flags)


@leaf
def _get_flags(data, at, flags):  # type: ignore[no-untyped-def]
    for index in range(len(flags)):
        code = np.int64(data[at + index])
        word = (code & 32) << 35
        for c in range(5):
            word |= (code & (1 << c)) << (7 * c)
        flags[index] = word
    return at + len(flags)


@compiled
def _put_listed(table, slot, out, at):  # type: ignore[no-untyped-def]
    """Pack events and marks."""
    count = table.slots[slot, EVENTS]
    if count > 0:
        at = put_times(out, at, column_of(table, slot, TIME, count), count)
        at = put_column(out, at, column_of(table, slot, VALUE, count), count)
        if table.columns == CARD_COLUMNS:
            at = _put_flags(out, at, column_of(table, slot, FLAGS, count))
            for column in range(FLAGS + 1, CARD_COLUMNS):
                at = put_column(out, at, column_of(table, slot, column, count), count)
    marks = table.slots[slot, MARKED]
    if marks > 0:
        start = table.slots[slot, MARK_START]
        at = put_column(out, at, table.marks[MARK_TIME, start : start + marks], marks)
        at = put_column(out, at, table.marks[MARK_TRANSACTION, start : start + marks], marks)
    return at


@compiled
def _get_listed(table, slot, events, marks, more, data, at):  # type: ignore[no-untyped-def]
    """Unpack events and marks of an empty slot, with room for `more` events."""
    table.slots[slot, START] = table.used[POOL_USED]
    table.slots[slot, EVENTS] = events
    table.slots[slot, CAPACITY] = events + more
    table.used[POOL_USED] += (events + more) * table.columns
    if events > 0:
        at = get_times(data, at, column_of(table, slot, TIME, events), events)
        at = get_column(data, at, column_of(table, slot, VALUE, events), events)
        if table.columns == CARD_COLUMNS:
            at = _get_flags(data, at, column_of(table, slot, FLAGS, events))
            for column in range(FLAGS + 1, CARD_COLUMNS):
                at = get_column(data, at, column_of(table, slot, column, events), events)
    start = table.used[MARKS_USED]
    table.used[MARKS_USED] = start + marks
    table.slots[slot, MARK_START] = start
    table.slots[slot, MARK_CAPACITY] = marks
    table.slots[slot, MARKED] = marks
    if marks > 0:
        at = get_column(data, at, table.marks[MARK_TIME, start : start + marks], marks)
        at = get_column(data, at, table.marks[MARK_TRANSACTION, start : start + marks], marks)
    return at


@compiled
def pack_card(table, slot, out, at):  # type: ignore[no-untyped-def]
    """Write the card's blob at `at`; return where it ends."""
    at = put(out, at, table.slots[slot, EVENTS], 2)
    at = put(out, at, table.slots[slot, MARKED], 1)
    at = put(out, at, table.slots[slot, FIRST], 8)
    at = put(out, at, table.slots[slot, NEWEST], 8)
    at = _put_listed(table, slot, out, at)
    return _put_folded(table, slot, out, at)


@compiled
def unpack_card(table, slot, data, at):  # type: ignore[no-untyped-def]
    """Fill an empty slot from the blob at `at`; it has room for two more events."""
    table.slots[slot, FIRST] = get(data, at + 3, 8)
    table.slots[slot, NEWEST] = get(data, at + 11, 8)
    at = _get_listed(table, slot, get(data, at, 2), get(data, at + 2, 1), 2, data, at + 19)
    _get_folded(table, slot, data, at)


@leaf
def put_record(out, at, kind, time, value):  # type: ignore[no-untyped-def]
    """Write one record."""
    at = put(out, at, time | (np.int64(kind) << KIND_SHIFT), 6)
    return put(out, at, value, 8)


@compiled
def pack_shared(table, slot, generation, out, at):  # type: ignore[no-untyped-def]
    """Write a shared entity in its folded form, without records; return where it ends."""
    at = put(out, at, generation, 4)
    at = put(out, at, table.slots[slot, FIRST], 8)
    at = put(out, at, table.slots[slot, EVENTS], 2)
    at = put(out, at, table.slots[slot, MARKED], 1)
    at = _put_folded(table, slot, out, at)
    return _put_listed(table, slot, out, at)


@compiled
def unpack_shared(table, slot, data, at, end, label_delay):  # type: ignore[no-untyped-def]
    """Fill an empty slot from data[at:end], with room for two more events; return its generation.

    The appended records are applied in their order, as in memory: see `shared_rows.add_fraud`.
    """
    generation = get(data, at, 4)
    first = get(data, at + 4, 8)
    events = get(data, at + 12, 2)
    marks = get(data, at + 14, 1)
    at = _get_folded(table, slot, data, at + 15)
    newest = np.int64(NEVER)
    row = table.slots[slot, HOT_ROW]
    if row >= 0:
        for tile in range(table.hot[row, TILE_COUNT]):
            if table.tiles[row, TILE_EVENTS, tile] > 0:
                newest = max(newest, table.tiles[row, TILE_TIME, tile])
    more = (end - at) // RECORD_SIZE + 2
    at = _get_listed(table, slot, events, marks, more, data, at)
    if events > 0:
        newest = max(newest, table.pool[table.slots[slot, START] + events - 1])
    while at < end:
        word = get(data, at, 6)
        kind = word >> KIND_SHIFT
        time = word & ((np.int64(1) << KIND_SHIFT) - 1)
        value = get(data, at + 6, 8)
        at += RECORD_SIZE
        if kind == EVENT:
            put_event(table, slot, events_until(table, slot, time), time, value, -1)
            first = min(first, time)
            newest = max(newest, time)
        elif kind == FRAUD_ADDED:
            table.slots[slot, NEWEST] = newest
            fold_frauds(table, slot, RETENTION + label_delay, label_delay)
            add_mark(table, slot, time, value)
        else:
            remove_mark(table, slot, value)
    mark_newest(table, slot, table.slots[slot, EVENTS])
    table.slots[slot, FIRST] = first
    table.slots[slot, NEWEST] = newest
    return generation
