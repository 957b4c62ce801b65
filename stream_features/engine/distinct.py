"""A small set of hashes in scratch, emptied by a generation number: distinct counts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stream_features.engine.compiled import leaf


class HashSet(NamedTuple):
    """`columns` independent sets; `generation[0]` marks what belongs to the present event."""

    keys: npt.NDArray[np.int64]
    stamp: npt.NDArray[np.int64]
    time: npt.NDArray[np.int64]
    generation: npt.NDArray[np.int64]


def new_set(columns: int, size: int = 1024) -> HashSet:
    """Return sets for up to `size` // 2 values each; `size` is a power of two."""
    shape = (columns, size)
    return HashSet(
        np.zeros(shape, np.int64),
        np.zeros(shape, np.int64),
        np.zeros(shape, np.int64),
        np.zeros(1, np.int64),
    )


@leaf
def insert(hashes, column, value, time):  # type: ignore[no-untyped-def]
    """Add `value`; return True if it is new. Its first time of insertion is remembered."""
    mask = hashes.keys.shape[1] - 1
    generation = hashes.generation[0]
    place = (value ^ (value >> 17)) & mask
    while hashes.stamp[column, place] == generation:
        if hashes.keys[column, place] == value:
            return False
        place = (place + 1) & mask
    hashes.stamp[column, place] = generation
    hashes.keys[column, place] = value
    hashes.time[column, place] = time
    return True


@leaf
def time_of(hashes, column, value, absent):  # type: ignore[no-untyped-def]
    """Return the time under which `value` was inserted, `absent` if it was not."""
    mask = hashes.keys.shape[1] - 1
    generation = hashes.generation[0]
    place = (value ^ (value >> 17)) & mask
    while hashes.stamp[column, place] == generation:
        if hashes.keys[column, place] == value:
            return hashes.time[column, place]
        place = (place + 1) & mask
    return absent
