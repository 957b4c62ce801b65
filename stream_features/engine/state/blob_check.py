"""Checks a stored value before it is unpacked, so that unpacking itself needs no checks.

Anything may stand under the key of an entity: a value that was cut, bytes of another program, or
what somebody made up. Unpacking trusts every count, width and code in it and writes to memory
accordingly. So `find_fault` follows the layout that `blob` describes from column to column. It
skips most numbers and reads only those that decide where something is read or written, or that
could stop the arithmetic. A changed amount therefore stays unnoticed: it makes a feature wrong, but
does no other harm.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from schemas.compiled import compiled, leaf
from stream_features.engine.state.blob import FRAUD_REMOVED, KIND_SHIFT, RECORD_SIZE
from stream_features.engine.state.entities import (
    CARD_COLUMNS,
    FLAGS,
    MARKS,
    SEEN,
    TILES,
    Table,
)
from stream_features.engine.state.packing import REPEATED, SLACK, get

SOUND, TOO_LARGE, CUT_HEAD, TOO_MANY, IMPOSSIBLE_TIMES, BAD_COLUMN, BYTES_LEFT, BAD_RECORD = range(8)  # fmt: skip
FAULTS: Final = (
    "",
    "it is larger than any entity can be",
    "it is shorter than its head",
    "it counts more events, marks, tiles or seen values than an entity holds",
    "its first or newest time is impossible",
    "a column is damaged or cut short",
    "bytes follow its last column",
    "a record is damaged or cut short",
)
"""What is wrong with a value, in words, by the code that the checks return."""
MAX_BYTES: Final = 2**19
"""The largest value that is unpacked. Cards take up to 33 kB. A shared entity is rewritten whole
beyond 2.8 kB, unless workers append to it at the same time, at most 57 kB each. Records in falling
order take long to unpack: five seconds of so many bytes, and twenty of twice as many."""
CARD_HEAD: Final = 19
SHARED_HEAD: Final = 15
COUNTS: Final = 3
"""Bytes of the numbers of tiles and seen values."""
MAX_TIME: Final = 2**46
"""Times (ms) are closer to 1970 than this, as those of records have to be."""
NO_TIME_YET: Final = 2**62
"""First times from here on mean that there has not been an event."""
WIDEST_STEP: Final = 6
"""The most bytes of a step between two times."""
WIDEST_COUNT: Final = 6
"""The most bytes of a tile's number of events: neither it nor a sum of tiles can be negative."""
NOWHERE: Final = -1
"""The end of a part that is damaged, or would end behind the value."""


@leaf
def _after_column(data, at, end, count):  # type: ignore[no-untyped-def]
    """Return where a column of `count` > 0 numbers ends, or NOWHERE."""
    if at < 0 or at >= end:
        return NOWHERE
    width = np.int64(data[at])
    at += 1
    if width > REPEATED:
        return NOWHERE
    if width < REPEATED:
        at += width * count
        return at if at <= end else NOWHERE
    if at >= end:
        return NOWHERE
    size = np.int64(data[at])
    at += 1 + 8 * size
    if size == 0:
        return at
    if at + count > end:
        return NOWHERE
    codes = data[at : at + count]
    largest = np.uint8(0)
    for index in range(count):
        largest = max(largest, codes[index])
    return at + count if largest <= size else NOWHERE


@leaf
def _after_times(data, at, end, count):  # type: ignore[no-untyped-def]
    """Return where `count` > 0 ascending times end, or NOWHERE."""
    if at < 0 or at + 9 > end:
        return NOWHERE
    first = get(data, at, 8)
    width = np.int64(data[at + 8])
    if first < -MAX_TIME or first > MAX_TIME or width > WIDEST_STEP:
        return NOWHERE
    at += 9 + width * (count - 1)
    return at if at <= end else NOWHERE


@compiled
def _after_tiles(data, at, end, tiles, wide):  # type: ignore[no-untyped-def]
    """Return where `tiles` > 0 tiles end, or NOWHERE. Those of cards are `wide`."""
    events = _after_times(data, at, end, tiles)
    at = _after_column(data, events, end, tiles)
    if at < 0:
        return NOWHERE
    width = np.int64(data[events])
    if width > WIDEST_COUNT:
        return NOWHERE
    several = 0
    for tile in range(tiles):
        several += 1 if get(data, events + 1 + tile * width, width) > 1 else 0
    at = _after_column(data, at, end, tiles)  # sums
    if wide:
        at = _after_column(data, at, end, tiles)  # maxima
    at = _after_column(data, at, end, tiles)  # frauds
    if at < 0 or at >= end:
        return NOWHERE
    width = np.int64(data[at])
    if width != 0 and width != 4:
        return NOWHERE
    at += 1 + width * several  # squared deviations of the tiles with several events
    return at if at <= end else NOWHERE


@compiled
def _after_seen(data, at, end, seen, distinct):  # type: ignore[no-untyped-def]
    """Return where `seen` > 0 seen values end, or NOWHERE. Each belongs to a distinct column."""
    columns = at + 8
    at = _after_column(data, columns, end, seen)
    if at < 0:
        return NOWHERE
    width = np.int64(data[columns])
    if width > 1 or distinct == 0:
        return NOWHERE
    for index in range(seen * width):
        if data[columns + 1 + index] >= distinct:
            return NOWHERE
    at = _after_column(data, at, end, seen)  # values
    return _after_column(data, at, end, seen)  # times


@compiled
def _after_folded(data, at, end, tiles, seen, distinct, wide):  # type: ignore[no-untyped-def]
    """Return where tiles and seen values end, or NOWHERE."""
    if tiles > 0:
        at = _after_tiles(data, at, end, tiles, wide)
    if seen > 0 and at >= 0:
        at = _after_seen(data, at, end, seen, distinct)
    return at


@compiled
def _after_listed(data, at, end, events, marks, wide):  # type: ignore[no-untyped-def]
    """Return where events and marks end, or NOWHERE."""
    if events > 0:
        at = _after_times(data, at, end, events)
        at = _after_column(data, at, end, events)  # values
        if wide and at >= 0:
            at += events  # flags, one byte for each event
            for _ in range(FLAGS + 1, CARD_COLUMNS):
                at = _after_column(data, at, end, events)
    if marks > 0:
        at = _after_column(data, at, end, marks)  # times
        at = _after_column(data, at, end, marks)  # transactions
    return at


@compiled
def _card_fault(limit, distinct, data, at, end):  # type: ignore[no-untyped-def]
    if end - at < CARD_HEAD + COUNTS:
        return CUT_HEAD
    events = get(data, at, 2)
    marks = get(data, at + 2, 1)
    first = get(data, at + 3, 8)
    newest = get(data, at + 11, 8)
    if events > limit or marks > MARKS:
        return TOO_MANY
    if first < -MAX_TIME or newest > MAX_TIME or (events > 0 and first > newest):
        return IMPOSSIBLE_TIMES
    at = _after_listed(data, at + CARD_HEAD, end, events, marks, True)
    if at < 0 or at + COUNTS > end:
        return BAD_COLUMN
    tiles = get(data, at, 2)
    seen = get(data, at + 2, 1)
    if tiles > TILES or seen > SEEN:
        return TOO_MANY
    at = _after_folded(data, at + COUNTS, end, tiles, seen, distinct, True)
    if at < 0:
        return BAD_COLUMN
    return SOUND if at == end else BYTES_LEFT


@compiled
def _shared_fault(limit, distinct, data, at, end):  # type: ignore[no-untyped-def]
    if end - at < SHARED_HEAD + COUNTS:
        return CUT_HEAD
    first = get(data, at + 4, 8)
    events = get(data, at + 12, 2)
    marks = get(data, at + 14, 1)
    tiles = get(data, at + 15, 2)
    seen = get(data, at + 17, 1)
    if events > limit or marks > MARKS or tiles > TILES or seen > SEEN:
        return TOO_MANY
    if first < -MAX_TIME or MAX_TIME < first < NO_TIME_YET:
        return IMPOSSIBLE_TIMES
    at = _after_folded(data, at + SHARED_HEAD + COUNTS, end, tiles, seen, distinct, False)
    if at >= 0:
        at = _after_listed(data, at, end, events, marks, False)
    if at < 0:
        return BAD_COLUMN
    if (end - at) % RECORD_SIZE != 0:
        return BAD_RECORD
    for record in range(at, end, RECORD_SIZE):
        if get(data, record, 6) >> KIND_SHIFT > FRAUD_REMOVED:
            return BAD_RECORD
    return SOUND


@leaf
def find_fault(table, data, at, end):  # type: ignore[no-untyped-def]
    """Return SOUND if the value data[at:end] can be unpacked, else what is wrong with it.

    Args:
        table: the one that it would be unpacked into, which says of what kind the entity is.
        data: uint8, with SLACK more bytes behind `end`.

    Returns:
        An index into FAULTS.
    """
    if end - at > MAX_BYTES:
        return TOO_LARGE
    if table.columns == CARD_COLUMNS:
        return _card_fault(table.limit, table.distinct, data, at, end)
    return _shared_fault(table.limit, table.distinct, data, at, end)


def fault_of(table: Table, value: bytes) -> str:
    """Return what is wrong with a stored value in words, or "" if it can be unpacked into `table`.

    >>> from stream_features.engine.state.entities import new_tables
    >>> fault_of(new_tables().card, b"OK")
    'it is shorter than its head'
    """
    data = np.frombuffer(value + bytes(SLACK), np.uint8)
    return FAULTS[int(find_fault(table, data, 0, len(value)))]
