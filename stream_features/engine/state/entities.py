"""The state of many entities in flat arrays: events, folded tiles and marks.

`Table` holds one kind of entity (cards, merchants, devices or IP addresses). Every entity has a
slot. Its events form one block of the pool, column after column, sorted by time and then by
arrival, so that the data of one transaction is close together. Events leave at the head of the
block; a full block is moved to its beginning or to a new one of twice the size. Hot entities own a
row of tiles, see `fold`. Marks are pending fraud labels and the ids of refunds and reversals
(cards), or frauds (shared entities).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.compiled import compiled, leaf, view
from schemas.errors import ConfigurationError
from schemas.hash_table import EMPTY, find
from stream_features.engine.statistics.scans import last_equal

Int = npt.NDArray[np.int64]

CARD_EVENTS: Final = 192
"""A card's windows are exact while it retains at most this many events."""
SHARED_EVENTS: Final = 128
MAX_CARD_EVENTS: Final = 250
"""The most events that the byte-wide sums over a card's flags and hours can count."""
FIRST_POOL: Final = 2**20
"""Initial cells of the pool. Memory is allocated as it is used, from 4 MB on in huge pages."""
TILES: Final = 320
SEEN: Final = 128
MARKS: Final = 128

POOL_USED, SLOTS_USED, HOT_USED, MARKS_USED = range(4)
START, CAPACITY, EVENTS, HEAD, FIRST, NEWEST, HOT_ROW, TOUCHED, MARK_START, MARK_CAPACITY, MARKED, HOURS_FROM, HOURS = range(13)  # fmt: skip
SLOT_SIZE: Final = 16
TIME, VALUE, FLAGS, MERCHANT, MCC, DEVICE, COUNTRY, IP, TRANSACTION, POSITION = range(10)
FRAUD: Final = 1 << 40
"""The bit of a labelled fraud in a card's flags. Below it is one byte for each distinct column, see
`mark_newest`."""
TILE_TIME, TILE_EVENTS, TILE_SUM, TILE_MAX, TILE_FRAUDS = range(5)
SEEN_COLUMN, SEEN_VALUE, SEEN_TIME = range(3)
MARK_TIME, MARK_TRANSACTION = range(2)
TILE_COUNT, SEEN_COUNT = range(2)
SHARED_COLUMNS: Final = 3
CARD_COLUMNS: Final = 10


class Table(NamedTuple):
    """One kind of entity; the constants above name rows and columns. 64-bit hashes lie in int64.

    Attributes:
        used: int64[4], the used parts of pool, slots, hot rows and marks.
        limit: the most exact events that an entity holds.
        columns: their number; column c of the first event of a slot is at START + c * CAPACITY.
        first_distinct, distinct: the columns whose distinct values are counted (none for
        merchants). slots: int64[slot, SLOT_SIZE]. pool: int64[cell].
        hot: int64[row, 2]. tiles: int64[row, 5, TILES]. m2: float64[row, TILES].
        seen: int64[row, 3, SEEN]. marks: int64[2, mark].
        rows: int64[slot], zero between batches, see `grouping`.
    """

    used: Int
    limit: int
    columns: int
    first_distinct: int
    distinct: int
    slots: Int
    pool: Int
    hot: Int
    tiles: Int
    m2: npt.NDArray[np.float64]
    seen: Int
    marks: Int
    rows: Int


class Tables(NamedTuple):
    """The four kinds of entities."""

    card: Table
    merchant: Table
    device: Table
    ip: Table


def _new_table(limit: int, columns: int, first_distinct: int, distinct: int) -> Table:
    return Table(
        used=np.zeros(4, np.int64),
        limit=limit,
        columns=columns,
        first_distinct=first_distinct,
        distinct=distinct,
        slots=np.zeros((64, SLOT_SIZE), np.int64),
        pool=np.zeros(max(FIRST_POOL, 8 * limit * columns), np.int64),
        hot=np.zeros((4, 2), np.int64),
        tiles=np.zeros((4, 5, TILES), np.int64),
        m2=np.zeros((4, TILES)),
        seen=np.zeros((4, 3, SEEN), np.int64),
        marks=np.zeros((2, 8 * MARKS), np.int64),
        rows=np.zeros(64, np.int64),
    )


def new_tables(card_events: int = CARD_EVENTS, shared_events: int = SHARED_EVENTS) -> Tables:
    """Return empty tables, with the most exact events of a card and of a shared entity.

    Raises:
        ConfigurationError: `card_events` exceeds MAX_CARD_EVENTS.
    """
    if card_events > MAX_CARD_EVENTS:
        raise ConfigurationError(
            f"{card_events} exact events for a card are too many: give at most {MAX_CARD_EVENTS}"
        )
    return Tables(
        _new_table(card_events, CARD_COLUMNS, MERCHANT, 5),
        _new_table(shared_events, SHARED_COLUMNS, VALUE, 0),
        _new_table(shared_events, SHARED_COLUMNS, VALUE, 1),
        _new_table(shared_events, SHARED_COLUMNS, VALUE, 1),
    )


def _longer(old: npt.NDArray[Any], size: int, axis: int) -> npt.NDArray[Any]:
    shape = list(old.shape)
    shape[axis] = size
    new = np.zeros(shape, old.dtype)
    new[tuple(slice(length) for length in old.shape)] = old
    return new


def grown(table: Table, *, slots: int = 0) -> Table:
    """Return the table with more room in every part that the kernel may have filled."""
    if slots > len(table.slots):
        size = max(slots, 2 * len(table.slots))
        table = table._replace(
            slots=_longer(table.slots, size, 0), rows=_longer(table.rows, size, 0)
        )
    while table.used[POOL_USED] + 3 * (table.limit + 2) * table.columns > len(table.pool):
        table = larger_pool(table)
    if table.used[HOT_USED] + 1 >= len(table.hot):
        rows = 2 * len(table.hot)
        table = table._replace(
            hot=_longer(table.hot, rows, 0),
            tiles=_longer(table.tiles, rows, 0),
            m2=_longer(table.m2, rows, 0),
            seen=_longer(table.seen, rows, 0),
        )
    if table.used[MARKS_USED] + 3 * MARKS > table.marks.shape[1]:
        table = table._replace(marks=_longer(table.marks, 2 * table.marks.shape[1], 1))
    return table


def larger_pool(table: Table) -> Table:
    """Return the table with half as much room again for events, for very large entities.

    In place: the operating system moves large blocks by remapping, where a copy would touch them
    all.
    """
    table.pool.resize(3 * len(table.pool) // 2, refcheck=False)
    return table


@leaf
def has_room(table):  # type: ignore[no-untyped-def]
    """Return whether pool, tiles and marks have room for one more event, or for unpacking an entity.

    A list of marks that grows while records are applied takes up to 353 places: it is moved when it
    is full, and each of its blocks has twice the size of the one before (15, 30, 60, 120, 128).
    """
    return (
        table.used[POOL_USED] + 2 * (table.limit + 2) * table.columns <= len(table.pool)
        and table.used[HOT_USED] + 1 <= len(table.hot)
        and table.used[MARKS_USED] + 3 * MARKS <= table.marks.shape[1]
    )


@compiled
def assign_slots(slot_of, id_of, ids, table, out):  # type: ignore[no-untyped-def]
    """Fill `out` with the slot of each id (uint64[n]), making new ones; -1 for the missing id 0.

    `slot_of` (a hash table, see `schemas.hash_table`) and `id_of` (uint64, the id of each slot)
    have room for all new ids.
    """
    for row in range(len(ids)):
        identity = np.uint64(ids[row])
        if identity == 0:
            out[row] = -1
            continue
        place = find(slot_of, id_of, identity)
        slot = np.int64(slot_of[place])
        if slot == EMPTY:
            slot = table.used[SLOTS_USED]
            table.used[SLOTS_USED] += 1
            slot_of[place] = slot
            id_of[slot] = identity
            table.slots[slot, :] = 0
            table.slots[slot, FIRST] = np.iinfo(np.int64).max
            table.slots[slot, NEWEST] = np.iinfo(np.int64).min // 2
            table.slots[slot, HOT_ROW] = -1
            table.slots[slot, HOURS_FROM] = -1
        out[row] = slot


@view
def column_of(table, slot, column, count):  # type: ignore[no-untyped-def]
    """Return a column of the oldest `count` events of an entity, as a view of the pool."""
    start = table.slots[slot, START] + column * table.slots[slot, CAPACITY]
    return table.pool[start : start + count]


@leaf
def drop_oldest(table, slot, gone):  # type: ignore[no-untyped-def]
    """Drop the `gone` oldest events."""
    table.slots[slot, START] += gone
    table.slots[slot, HEAD] += gone
    table.slots[slot, EVENTS] -= gone
    table.slots[slot, HOURS_FROM] = max(-1, table.slots[slot, HOURS_FROM] - gone)


@leaf
def prune(table, slot, floor):  # type: ignore[no-untyped-def]
    """Drop the events with time <= floor."""
    start = table.slots[slot, START]
    count = table.slots[slot, EVENTS]
    gone = 0
    while gone < count and table.pool[start + gone] <= floor:
        gone += 1
    if gone > 0:
        drop_oldest(table, slot, gone)


@compiled
def _make_room(table, slot):  # type: ignore[no-untyped-def]
    """Free places at the end of a full block: move its events to its beginning or a new block."""
    start = table.slots[slot, START]
    count = table.slots[slot, EVENTS]
    old = table.slots[slot, CAPACITY]
    target = start - table.slots[slot, HEAD]
    capacity = old
    if 4 * count >= 3 * old:
        capacity = max(min(max(4, 2 * count), table.limit + 2), count + 2)
        target = table.used[POOL_USED]
        table.used[POOL_USED] += capacity * table.columns
    for column in range(table.columns):
        for index in range(count):
            table.pool[target + column * capacity + index] = table.pool[
                start + column * old + index
            ]
    table.slots[slot, START] = target
    table.slots[slot, HEAD] = 0
    table.slots[slot, CAPACITY] = capacity


@compiled
def _shift_right(table, slot, first):  # type: ignore[no-untyped-def]
    """Move the events from `first` on by one place."""
    for column in range(table.columns):
        start = table.slots[slot, START] + column * table.slots[slot, CAPACITY]
        for index in range(start + table.slots[slot, EVENTS], start + first, -1):
            table.pool[index] = table.pool[index - 1]


@leaf
def open_place(table, slot, place):  # type: ignore[no-untyped-def]
    """Open a place at index `place` (of the entity's events); its columns are not yet filled."""
    count = table.slots[slot, EVENTS]
    if table.slots[slot, HEAD] + count == table.slots[slot, CAPACITY]:
        _make_room(table, slot)
    if place < count:
        _shift_right(table, slot, place)
        table.slots[slot, HOURS_FROM] = -1
    table.slots[slot, EVENTS] = count + 1


@compiled
def take_out(table, slot, index):  # type: ignore[no-untyped-def]
    """Remove the event at `index`; the flags of the others are stale until `mark_newest`."""
    last = table.slots[slot, EVENTS] - 1
    for column in range(table.columns):
        start = table.slots[slot, START] + column * table.slots[slot, CAPACITY]
        for place in range(start + index, start + last):
            table.pool[place] = table.pool[place + 1]
    table.slots[slot, EVENTS] = last
    table.slots[slot, HOURS_FROM] = -1


@leaf
def events_until(table, slot, time):  # type: ignore[no-untyped-def]
    """Return how many events of the entity have a time <= `time`."""
    start = table.slots[slot, START]
    low = 0
    high = table.slots[slot, EVENTS]
    if high > 0 and table.pool[start + high - 1] <= time:
        return high
    while low < high:
        middle = (low + high) // 2
        if table.pool[start + middle] <= time:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def mark_newest(table, slot, count):  # type: ignore[no-untyped-def]
    """Set the flags of the oldest `count` events as if there were no others.

    Byte c of an event's flags is 1 if no newer event has its value of distinct column c; so the
    number of distinct values among the newest events is a sum over flags. An event that lacks the
    value has 0. While events arrive in order, the kernel updates the flags itself.
    """
    if table.distinct == 0:
        return
    flags = column_of(table, slot, FLAGS, count)
    kept = FRAUD if table.columns == CARD_COLUMNS else 0
    for index in range(count):
        flags[index] &= kept
    for c in range(table.distinct):
        values = column_of(table, slot, table.first_distinct + c, count)
        for index in range(count):
            if values[index] != 0 and last_equal(values[index:], values[index]) == 0:
                flags[index] |= 1 << (8 * c)


@leaf
def find_mark(table, slot, transaction):  # type: ignore[no-untyped-def]
    """Return the index of the mark of `transaction`, or -1."""
    start = table.slots[slot, MARK_START]
    for index in range(start, start + table.slots[slot, MARKED]):
        if table.marks[MARK_TRANSACTION, index] == transaction:
            return index
    return -1


@compiled
def add_mark(table, slot, time, transaction):  # type: ignore[no-untyped-def]
    """Append a mark unless it exists; return False if the list is full."""
    if find_mark(table, slot, transaction) >= 0:
        return True
    count = table.slots[slot, MARKED]
    if count == MARKS:
        return False
    if count == table.slots[slot, MARK_CAPACITY]:
        capacity = min(max(2, 2 * count), MARKS)
        target = table.used[MARKS_USED]
        table.used[MARKS_USED] += capacity
        for index in range(count):
            table.marks[MARK_TIME, target + index] = table.marks[
                MARK_TIME, table.slots[slot, MARK_START] + index
            ]
            table.marks[MARK_TRANSACTION, target + index] = table.marks[
                MARK_TRANSACTION, table.slots[slot, MARK_START] + index
            ]
        table.slots[slot, MARK_START] = target
        table.slots[slot, MARK_CAPACITY] = capacity
    index = table.slots[slot, MARK_START] + count
    table.marks[MARK_TIME, index] = time
    table.marks[MARK_TRANSACTION, index] = transaction
    table.slots[slot, MARKED] = count + 1
    return True


@compiled
def drop_marks(table, slot, horizon):  # type: ignore[no-untyped-def]
    """Remove the marks at or before `horizon` (ms)."""
    start = table.slots[slot, MARK_START]
    kept = start
    for index in range(start, start + table.slots[slot, MARKED]):
        if table.marks[MARK_TIME, index] > horizon:
            table.marks[MARK_TIME, kept] = table.marks[MARK_TIME, index]
            table.marks[MARK_TRANSACTION, kept] = table.marks[MARK_TRANSACTION, index]
            kept += 1
    table.slots[slot, MARKED] = kept - start


@compiled
def swap_marks(table, one, other):  # type: ignore[no-untyped-def]
    """Exchange two marks."""
    for column in range(2):
        held = table.marks[column, one]
        table.marks[column, one] = table.marks[column, other]
        table.marks[column, other] = held


@compiled
def remove_mark(table, slot, transaction):  # type: ignore[no-untyped-def]
    """Remove the mark of `transaction`; return whether it existed."""
    index = find_mark(table, slot, transaction)
    if index < 0:
        return False
    last = table.slots[slot, MARK_START] + table.slots[slot, MARKED] - 1
    for position in range(index, last):
        table.marks[MARK_TIME, position] = table.marks[MARK_TIME, position + 1]
        table.marks[MARK_TRANSACTION, position] = table.marks[MARK_TRANSACTION, position + 1]
    table.slots[slot, MARKED] -= 1
    return True
