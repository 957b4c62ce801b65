"""Many messages as one piece of memory: kernels read fields of it by where they start and end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numba import njit

from schemas.keys import hash_span

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


def as_array(data: bytes | bytearray) -> Bytes:
    """Return the bytes as uint8 without copying."""
    return np.frombuffer(data, np.uint8)


def joined(parts: Sequence[bytes]) -> tuple[bytes, Ints]:
    """Return the parts in one piece and the n + 1 places where they start, the last their end.

    >>> joined([b"ab", b"", b"c"])
    (b'abc', array([0, 2, 2, 3]))
    """
    starts = np.zeros(len(parts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)), out=starts[1:])
    return b"".join(parts), starts


def sliced(data: bytes, starts: Ints, ends: Ints) -> list[bytes]:
    """Return `data[start:end]` of each pair."""
    return list(map(data.__getitem__, map(slice, starts.tolist(), ends.tolist())))


def cut_at(data: Bytes, ends: Ints) -> list[bytes]:
    """Return the messages that lie in `data` one behind the other and end at `ends`."""
    starts = np.zeros_like(ends)
    starts[1:] = ends[:-1]
    return sliced(data.tobytes(), starts, ends)


@njit(cache=True)
def hash_texts(buffer, spans):  # type: ignore[no-untyped-def]
    """Hash `buffer[spans[i, 0]:spans[i, 1]]` of each row: uint64[n]."""
    hashes = np.empty(len(spans), np.uint64)
    for row in range(len(spans)):
        hashes[row] = hash_span(buffer, spans[row, 0], spans[row, 1])
    return hashes


@njit(cache=True)
def gather(buffer, spans):  # type: ignore[no-untyped-def]
    """Copy `buffer[spans[i, 0]:spans[i, 1]]` of each row together: (bytes, offsets int32[n+1])."""
    offsets = np.zeros(len(spans) + 1, np.int32)
    for row in range(len(spans)):
        offsets[row + 1] = offsets[row] + np.int32(spans[row, 1] - spans[row, 0])
    out = np.empty(offsets[-1], np.uint8)
    for row in range(len(spans)):
        start, size = spans[row, 0], spans[row, 1] - spans[row, 0]
        out[offsets[row] : offsets[row] + size] = buffer[start : start + size]
    return out, offsets
