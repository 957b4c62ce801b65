"""An open-addressing hash table for compiled code: from 64-bit hashes to row numbers.

The caller keeps the keys in an array of its own, `keys`, in any order; the table holds only the
rows where they lie, so that a record needs 4 bytes a place. Rows are found by linear probing from
the low bits of the key, without mixing them again: keys have to be hashes (`schemas.keys`).
Nothing here allocates, so kernels without reference counting may call it.
Source: Knuth, The Art of Computer Programming 3, section 6.4 (algorithms L and R).

A table of at most `n` rows, at first empty:

    >>> table, keys = new_table(3), np.array([7, 9, 7 + 8], np.uint64)
    >>> insert_rows(table, keys, len(keys))
    >>> int(table[find(table, keys, np.uint64(15))])
    2
    >>> int(table[find(table, keys, np.uint64(23))])
    -1
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from schemas.compiled import compiled, leaf

EMPTY: Final = -1


def table_size(rows: int) -> int:
    """Return how many places a table of so many rows needs: a power of two, at most half used."""
    return 1 << max(2 * rows - 1, 1).bit_length()


def new_table(rows: int) -> npt.NDArray[np.int32]:
    """Return an empty table with room for so many rows.

    More rows than that make probing slow; a table without an empty place would probe for ever.
    """
    return np.full(table_size(rows), EMPTY, np.int32)


@leaf
def find(table, keys, key):  # type: ignore[no-untyped-def]
    """Return the place in `table` of the key's row, or the EMPTY place where it belongs.

    To insert, write the row there and the key to `keys[row]` before the next call.
    """
    mask = np.uint64(len(table) - 1)
    place = np.uint64(key) & mask
    while table[place] != EMPTY and keys[table[place]] != key:
        place = (place + np.uint64(1)) & mask
    return np.int64(place)


@compiled
def remove(table, keys, place):  # type: ignore[no-untyped-def]
    """Empty a place that `find` returned; the row must still have its key.

    Rows behind it move up, so that no gap hides one of them: places found before are void.
    """
    mask = np.int64(len(table) - 1)
    gap, place = place, (place + 1) & mask
    while table[place] != EMPTY:
        home = np.int64(np.uint64(keys[table[place]]) & np.uint64(mask))
        if ((place - home) & mask) >= ((place - gap) & mask):
            table[gap] = table[place]
            gap = place
        place = (place + 1) & mask
    table[gap] = EMPTY


@compiled
def insert_rows(table, keys, rows):  # type: ignore[no-untyped-def]
    """Insert the rows 0 to `rows` - 1, whose keys differ, to an empty table: growing is this."""
    for row in range(rows):
        table[find(table, keys, keys[row])] = row
