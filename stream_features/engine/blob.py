"""State as bytes: a card's whole blob, a shared entity's header, tiles and append-only records.

Columns are packed to the width of their largest value (a width byte of 0 means all zero); ids, which
repeat, are packed as a dictionary and one-byte codes. All integers are little-endian.
The layout is described in schemas/README.md.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from stream_features.engine.compiled import compiled, leaf
from stream_features.engine.table import (
    CAPACITY,
    CARD_COLUMNS,
    COUNTRY,
    DEVICE,
    EVENTS,
    FIRST,
    FRAUD,
    HOT_ROW,
    HOT_USED,
    IP,
    MARK_CAPACITY,
    MARK_START,
    MARK_TIME,
    MARK_TRANSACTION,
    MARKED,
    MARKS,
    MARKS_USED,
    MCC,
    MERCHANT,
    NEWEST,
    POOL_USED,
    POSITION,
    SEEN_COUNT,
    START,
    TILE_COUNT,
    TILE_TIME,
    TIME,
    TRANSACTION,
    VALUE,
    add_mark,
    make_place,
    remove_mark,
)

RECORD_SIZE: Final = 14
EVENT, FRAUD_ADDED, FRAUD_REMOVED = range(3)
KIND_SHIFT: Final = 46
"""A record is 6 bytes of time with its kind in the two top bits, then 8 bytes of value."""
NEW_SHARED: Final = bytes(4) + (2**62).to_bytes(8, "little") + bytes(4)
"""Header of a shared entity that was never folded: generation, first seen, no tiles, none seen."""
SHARED_HEADER: Final = len(NEW_SHARED)


@leaf
def _put(out, at, number, width):  # type: ignore[no-untyped-def]
    for byte in range(width):
        out[at + byte] = (number >> (8 * byte)) & 0xFF
    return at + width


@leaf
def _get(data, at, width):  # type: ignore[no-untyped-def]
    number = np.int64(0)
    for byte in range(width):
        number |= np.int64(data[at + byte]) << (8 * byte)
    return number


@leaf
def _width(largest):  # type: ignore[no-untyped-def]
    """Bytes of a non-negative number; 8 for a negative one."""
    if largest < 0:
        return 8
    width = 0
    while largest > 0:
        largest >>= 8
        width += 1
    return width


@compiled
def _put_column(out, at, values, n):  # type: ignore[no-untyped-def]
    bits = np.int64(0)
    for index in range(n):
        bits |= values[index]
    width = _width(bits)
    out[at] = width
    at += 1
    for index in range(n):
        at = _put(out, at, values[index], width)
    return at


@compiled
def _get_column(data, at, values, n):  # type: ignore[no-untyped-def]
    width = np.int64(data[at])
    at += 1
    for index in range(n):
        values[index] = _get(data, at, width)
        at += width
    return at


@compiled
def _put_times(out, at, values, n):  # type: ignore[no-untyped-def]
    """Pack ascending times as the first and the steps from there."""
    at = _put(out, at, values[0] if n > 0 else np.int64(0), 8)
    width = _width(values[n - 1] - values[0]) if n > 0 else 0
    out[at] = width
    at += 1
    for index in range(n):
        at = _put(out, at, values[index] - values[0], width)
    return at


@compiled
def _get_times(data, at, values, n):  # type: ignore[no-untyped-def]
    first = _get(data, at, 8)
    width = np.int64(data[at + 8])
    at += 9
    for index in range(n):
        values[index] = first + _get(data, at, width)
        at += width
    return at


@compiled
def _put_ids(out, at, values, n):  # type: ignore[no-untyped-def]
    """Pack ids as a dictionary in order of appearance and codes; code 0 is missing."""
    size_at = at
    at += 1
    size = 0
    for index in range(n):
        if values[index] == 0:
            continue
        known = False
        for earlier in range(size):
            if _get(out, size_at + 1 + 8 * earlier, 8) == values[index]:
                known = True
                break
        if not known:
            at = _put(out, at, values[index], 8)
            size += 1
    out[size_at] = size
    if size == 0:
        return at
    for index in range(n):
        code = 0
        if values[index] != 0:
            while _get(out, size_at + 1 + 8 * code, 8) != values[index]:
                code += 1
            code += 1
        out[at + index] = code
    return at + n


@compiled
def _get_ids(data, at, values, n):  # type: ignore[no-untyped-def]
    size = np.int64(data[at])
    start = at + 1
    at = start + 8 * size
    if size == 0:
        for index in range(n):
            values[index] = 0
        return at
    for index in range(n):
        code = np.int64(data[at + index])
        values[index] = _get(data, start + 8 * (code - 1), 8) if code > 0 else np.int64(0)
    return at + n


@compiled
def _put_folded(table, row, m2_bits, out, at):  # type: ignore[no-untyped-def]
    tiles = table.hot[row, TILE_COUNT] if row >= 0 else np.int64(0)
    seen = table.hot[row, SEEN_COUNT] if row >= 0 else np.int64(0)
    at = _put(out, at, tiles, 2)
    at = _put(out, at, seen, 2)
    if tiles > 0:
        at = _put_times(out, at, table.tiles[row, TILE_TIME], tiles)
        for column in range(1, table.tiles.shape[1]):
            at = _put_column(out, at, table.tiles[row, column], tiles)
        at = _put_column(out, at, m2_bits[row], tiles)
    if seen > 0:
        for column in range(table.seen.shape[1]):
            at = _put_column(out, at, table.seen[row, column], seen)
    return at


@compiled
def _get_folded(table, slot, m2_bits, data, at):  # type: ignore[no-untyped-def]
    tiles = _get(data, at, 2)
    seen = _get(data, at + 2, 2)
    at += 4
    table.slots[slot, HOT_ROW] = -1
    if tiles + seen == 0:
        return at
    row = table.used[HOT_USED]
    table.used[HOT_USED] += 1
    table.slots[slot, HOT_ROW] = row
    table.hot[row, TILE_COUNT] = tiles
    table.hot[row, SEEN_COUNT] = seen
    if tiles > 0:
        at = _get_times(data, at, table.tiles[row, TILE_TIME], tiles)
        for column in range(1, table.tiles.shape[1]):
            at = _get_column(data, at, table.tiles[row, column], tiles)
        at = _get_column(data, at, m2_bits[row], tiles)
    if seen > 0:
        for column in range(table.seen.shape[1]):
            at = _get_column(data, at, table.seen[row, column], seen)
    return at


@compiled
def reserve(table, slot, events):  # type: ignore[no-untyped-def]
    """Give an empty slot a block for `events` events and two more."""
    table.slots[slot, START] = table.used[POOL_USED]
    table.slots[slot, CAPACITY] = events + 2
    table.slots[slot, EVENTS] = 0
    table.used[POOL_USED] += events + 2


@compiled
def pack_card(table, slot, m2_bits, out, at):  # type: ignore[no-untyped-def]
    """Write the card's blob at `at`; return where it ends."""
    n = table.slots[slot, EVENTS]
    marks = table.slots[slot, MARKED]
    start = table.slots[slot, START]
    at = _put(out, at, n, 2)
    at = _put(out, at, marks, 1)
    at = _put(out, at, table.slots[slot, FIRST], 8)
    at = _put(out, at, table.slots[slot, NEWEST], 8)
    end = start + n
    at = _put_times(out, at, table.pool[TIME, start:end], n)
    at = _put_column(out, at, table.pool[VALUE, start:end], n)
    at = _put_column(out, at, table.pool[TRANSACTION, start:end], n)
    for column in (MERCHANT, DEVICE, IP, POSITION):
        at = _put_ids(out, at, table.pool[column, start:end], n)
    for column in (MCC, COUNTRY, FRAUD):
        at = _put_column(out, at, table.pool[column, start:end], n)
    first = table.slots[slot, MARK_START]
    at = _put_column(out, at, table.marks[MARK_TIME, first : first + marks], marks)
    at = _put_column(out, at, table.marks[MARK_TRANSACTION, first : first + marks], marks)
    return _put_folded(table, table.slots[slot, HOT_ROW], m2_bits, out, at)


@compiled
def unpack_card(table, slot, m2_bits, data, at):  # type: ignore[no-untyped-def]
    """Fill an empty slot from a blob."""
    n = _get(data, at, 2)
    marks = _get(data, at + 2, 1)
    table.slots[slot, FIRST] = _get(data, at + 3, 8)
    table.slots[slot, NEWEST] = _get(data, at + 11, 8)
    at += 19
    reserve(table, slot, n)
    table.slots[slot, EVENTS] = n
    start = table.slots[slot, START]
    end = start + n
    at = _get_times(data, at, table.pool[TIME, start:end], n)
    at = _get_column(data, at, table.pool[VALUE, start:end], n)
    at = _get_column(data, at, table.pool[TRANSACTION, start:end], n)
    for column in (MERCHANT, DEVICE, IP, POSITION):
        at = _get_ids(data, at, table.pool[column, start:end], n)
    for column in (MCC, COUNTRY, FRAUD):
        at = _get_column(data, at, table.pool[column, start:end], n)
    first = table.used[MARKS_USED]
    if marks > 0:
        table.used[MARKS_USED] += marks
    table.slots[slot, MARK_START] = first
    table.slots[slot, MARK_CAPACITY] = marks
    table.slots[slot, MARKED] = marks
    at = _get_column(data, at, table.marks[MARK_TIME, first : first + marks], marks)
    at = _get_column(data, at, table.marks[MARK_TRANSACTION, first : first + marks], marks)
    return _get_folded(table, slot, m2_bits, data, at)


@leaf
def put_record(out, at, kind, time, value):  # type: ignore[no-untyped-def]
    """Write one 14-byte record."""
    at = _put(out, at, time | (np.int64(kind) << KIND_SHIFT), 6)
    return _put(out, at, value, 8)


@compiled
def pack_shared(table, slot, m2_bits, generation, out, at):  # type: ignore[no-untyped-def]
    """Write the whole value of a shared entity; return where it ends."""
    at = _put(out, at, generation, 4)
    at = _put(out, at, table.slots[slot, FIRST], 8)
    at = _put_folded(table, table.slots[slot, HOT_ROW], m2_bits, out, at)
    start = table.slots[slot, START]
    for index in range(start, start + table.slots[slot, EVENTS]):
        at = put_record(out, at, EVENT, table.pool[TIME, index], table.pool[VALUE, index])
    first = table.slots[slot, MARK_START]
    for index in range(first, first + table.slots[slot, MARKED]):
        time = table.marks[MARK_TIME, index]
        at = put_record(out, at, FRAUD_ADDED, time, table.marks[MARK_TRANSACTION, index])
    return at


@compiled
def unpack_shared(table, slot, m2_bits, data, at, end):  # type: ignore[no-untyped-def]
    """Fill an empty slot from a value; return its generation."""
    generation = _get(data, at, 4)
    first = _get(data, at + 4, 8)
    at = _get_folded(table, slot, m2_bits, data, at + 12)
    row = table.slots[slot, HOT_ROW]
    newest = np.int64(-(2**62))
    if row >= 0:
        for tile in range(table.hot[row, TILE_COUNT]):
            if table.tiles[row, 1, tile] > 0:
                newest = max(newest, table.tiles[row, TILE_TIME, tile])
    reserve(table, slot, (end - at) // RECORD_SIZE)
    lowest = np.int64(-(2**62))
    while at < end:
        word = _get(data, at, 6)
        kind = word >> KIND_SHIFT
        time = word & ((np.int64(1) << KIND_SHIFT) - 1)
        value = _get(data, at + 6, 8)
        at += RECORD_SIZE
        if kind == EVENT:
            place = make_place(table, slot, time, lowest)
            table.pool[VALUE, place] = value
            first = min(first, time)
            newest = max(newest, time)
        elif kind == FRAUD_ADDED:
            add_mark(table, slot, time, value)
        else:
            remove_mark(table, slot, value)
    table.slots[slot, FIRST] = first
    table.slots[slot, NEWEST] = newest
    return generation


@compiled
def packed_bound(table, slot):  # type: ignore[no-untyped-def]
    """Return an upper bound of the packed size of an entity, in bytes."""
    hot = 320 * 60 + 128 * 30 if table.slots[slot, HOT_ROW] >= 0 else 0
    width = 90 if table.pool.shape[0] == CARD_COLUMNS else RECORD_SIZE
    return 128 + width * table.slots[slot, EVENTS] + 16 * MARKS + hot
