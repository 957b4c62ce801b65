"""State of many entities in flat arrays: events by entity, folded tiles, marks.

`Table` is one kind of entity (cards, merchants, devices or addresses). Every entity has a slot; its
events lie in a block of the pool, sorted by time, ties in order of arrival. A block that is full
moves to a new one of twice the size. Hot entities own a row of tiles, see `fold`. Marks are pending
fraud labels (cards) or frauds (shared entities).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from stream_features.engine.compiled import compiled, leaf

Int = npt.NDArray[np.int64]

CARD_EVENTS: Final = 192
"""A card's windows are exact while it retains at most this many events."""
SHARED_EVENTS: Final = 128
TILES: Final = 320
SEEN: Final = 128
MARKS: Final = 128

POOL_USED, SLOTS_USED, HOT_USED, MARKS_USED = range(4)
START, CAPACITY, EVENTS, FIRST, NEWEST, HOT_ROW, TOUCHED, MARK_START, MARK_CAPACITY, MARKED = range(10)  # fmt: skip
TIME, VALUE, TRANSACTION, MERCHANT, DEVICE, IP, POSITION, MCC, COUNTRY, FRAUD = range(10)
TILE_TIME, TILE_EVENTS, TILE_SUM, TILE_MAX, TILE_FRAUDS = range(5)
SEEN_COLUMN, SEEN_VALUE, SEEN_TIME = range(3)
MARK_TIME, MARK_TRANSACTION = range(2)
TILE_COUNT, SEEN_COUNT = range(2)
SHARED_COLUMNS: Final = 2
CARD_COLUMNS: Final = 10


class Table(NamedTuple):
    """One kind of entity; the constants above name rows and columns. 64-bit hashes lie in int64.

    Attributes:
        used: int64[4], how much of pool, slots, hot rows and marks is taken.
        limit: an entity holds at most this many exact events.
        slots: int64[slot, 10]. pool: int64[column, event], two columns or ten for cards.
        hot: int64[row, 2]. tiles: int64[row, 5, TILES]. m2: float64[row, TILES].
        seen: int64[row, 3, SEEN]. marks: int64[2, mark].
    """

    used: Int
    limit: int
    slots: Int
    pool: Int
    hot: Int
    tiles: Int
    m2: npt.NDArray[np.float64]
    seen: Int
    marks: Int


def new_table(limit: int, *, wide: bool) -> Table:
    """Return an empty table whose entities hold `limit` exact events; cards are `wide`."""
    return Table(
        used=np.zeros(4, np.int64),
        limit=limit,
        slots=np.zeros((64, 10), np.int64),
        pool=np.zeros((CARD_COLUMNS if wide else SHARED_COLUMNS, 8 * limit), np.int64),
        hot=np.zeros((4, 2), np.int64),
        tiles=np.zeros((4, 5, TILES), np.int64),
        m2=np.zeros((4, TILES)),
        seen=np.zeros((4, 3, SEEN), np.int64),
        marks=np.zeros((2, 8 * MARKS), np.int64),
    )


def _longer(old: npt.NDArray[Any], size: int, axis: int) -> npt.NDArray[Any]:
    shape = list(old.shape)
    shape[axis] = size
    new = np.zeros(shape, old.dtype)
    new[tuple(slice(length) for length in old.shape)] = old
    return new


def grown(table: Table, *, slots: int = 0) -> Table:
    """Return the table with twice the room wherever the kernel may have run out of it."""
    if slots > len(table.slots):
        table = table._replace(slots=_longer(table.slots, max(slots, 2 * len(table.slots)), 0))
    if table.used[POOL_USED] + 3 * (table.limit + 2) > table.pool.shape[1]:
        table = table._replace(pool=_longer(table.pool, 2 * table.pool.shape[1], 1))
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


def doubled_pool(table: Table) -> Table:
    """Return the table with twice the room for events, for an entity that holds very many."""
    return table._replace(pool=_longer(table.pool, 2 * table.pool.shape[1], 1))


@leaf
def has_room(table):  # type: ignore[no-untyped-def]
    """Say whether one more event cannot run out of pool, tiles or marks."""
    return (
        table.used[POOL_USED] + 2 * (table.limit + 2) <= table.pool.shape[1]
        and table.used[HOT_USED] + 1 <= len(table.hot)
        and table.used[MARKS_USED] + 2 * MARKS <= table.marks.shape[1]
    )


@compiled
def assign_slots(keys, slot_of, ids, table, out):  # type: ignore[no-untyped-def]
    """Fill `out` with the slot of each id (uint64[n]), making new ones; -1 for the missing id 0.

    `keys`, `slot_of`: open-addressing map of a power-of-two size, with room for all new ids.
    """
    mask = np.uint64(len(keys) - 1)
    for row in range(len(ids)):
        identity = np.uint64(ids[row])
        if identity == 0:
            out[row] = -1
            continue
        place = identity & mask
        while keys[place] != 0 and keys[place] != identity:
            place = (place + np.uint64(1)) & mask
        if keys[place] == 0:
            keys[place] = identity
            slot = table.used[SLOTS_USED]
            table.used[SLOTS_USED] += 1
            slot_of[place] = slot
            table.slots[slot, CAPACITY] = 0
            table.slots[slot, EVENTS] = 0
            table.slots[slot, FIRST] = np.iinfo(np.int64).max
            table.slots[slot, NEWEST] = np.iinfo(np.int64).min // 2
            table.slots[slot, HOT_ROW] = -1
            table.slots[slot, TOUCHED] = 0
            table.slots[slot, MARK_CAPACITY] = 0
            table.slots[slot, MARKED] = 0
        out[row] = slot_of[place]


@leaf
def copy_event(table, source, target):  # type: ignore[no-untyped-def]
    """Copy one event of the pool onto another."""
    for column in range(table.pool.shape[0]):
        table.pool[column, target] = table.pool[column, source]


@compiled
def drop_oldest(table, slot, gone):  # type: ignore[no-untyped-def]
    """Drop the `gone` oldest events."""
    start = table.slots[slot, START]
    for index in range(start + gone, start + table.slots[slot, EVENTS]):
        copy_event(table, index, index - gone)
    table.slots[slot, EVENTS] -= gone


@compiled
def prune(table, slot, floor):  # type: ignore[no-untyped-def]
    """Drop the events with time <= floor."""
    start = table.slots[slot, START]
    count = table.slots[slot, EVENTS]
    gone = 0
    while gone < count and table.pool[TIME, start + gone] <= floor:
        gone += 1
    if gone > 0:
        drop_oldest(table, slot, gone)


@compiled
def make_place(table, slot, time, floor):  # type: ignore[no-untyped-def]
    """Open a place for an event at `time`, after its equals; return its pool index.

    Events at or below `floor` are dropped when the block is full.
    """
    if table.slots[slot, EVENTS] == table.slots[slot, CAPACITY]:
        prune(table, slot, floor)
        count = table.slots[slot, EVENTS]
        if 4 * count >= 3 * table.slots[slot, CAPACITY]:
            capacity = max(min(max(4, 2 * count), table.limit + 2), count + 2)
            target = table.used[POOL_USED]
            table.used[POOL_USED] += capacity
            for index in range(count):
                copy_event(table, table.slots[slot, START] + index, target + index)
            table.slots[slot, START] = target
            table.slots[slot, CAPACITY] = capacity
    start = table.slots[slot, START]
    place = start + table.slots[slot, EVENTS]
    while place > start and table.pool[TIME, place - 1] > time:
        copy_event(table, place - 1, place)
        place -= 1
    table.slots[slot, EVENTS] += 1
    table.pool[TIME, place] = time
    return place


@compiled
def take_out(table, slot, index):  # type: ignore[no-untyped-def]
    """Remove the event at pool `index`."""
    end = table.slots[slot, START] + table.slots[slot, EVENTS]
    for position in range(index + 1, end):
        copy_event(table, position, position - 1)
    table.slots[slot, EVENTS] -= 1


@leaf
def end_at(table, slot, time):  # type: ignore[no-untyped-def]
    """Return the pool index just behind the last event with time <= `time`."""
    low = table.slots[slot, START]
    high = low + table.slots[slot, EVENTS]
    if high > low and table.pool[TIME, high - 1] <= time:
        return high
    while low < high:
        middle = (low + high) // 2
        if table.pool[TIME, middle] <= time:
            low = middle + 1
        else:
            high = middle
    return low


@leaf
def find_mark(table, slot, transaction):  # type: ignore[no-untyped-def]
    """Return the index of the mark of `transaction`, -1 if there is none."""
    start = table.slots[slot, MARK_START]
    for index in range(start, start + table.slots[slot, MARKED]):
        if table.marks[MARK_TRANSACTION, index] == transaction:
            return index
    return -1


@compiled
def add_mark(table, slot, time, transaction):  # type: ignore[no-untyped-def]
    """Append a mark unless it is there; return False when the list is full."""
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
def swap_marks(table, one, other):  # type: ignore[no-untyped-def]
    """Exchange two marks."""
    for column in range(2):
        held = table.marks[column, one]
        table.marks[column, one] = table.marks[column, other]
        table.marks[column, other] = held


@compiled
def remove_mark(table, slot, transaction):  # type: ignore[no-untyped-def]
    """Remove the mark of `transaction`; return whether it was there."""
    index = find_mark(table, slot, transaction)
    if index < 0:
        return False
    last = table.slots[slot, MARK_START] + table.slots[slot, MARKED] - 1
    for position in range(index, last):
        table.marks[MARK_TIME, position] = table.marks[MARK_TIME, position + 1]
        table.marks[MARK_TRANSACTION, position] = table.marks[MARK_TRANSACTION, position + 1]
    table.slots[slot, MARKED] -= 1
    return True
