"""The outbox of a partition: messages that may not have reached Kafka, as one byte string.

A commit stores it, and the next owner of the partition reads it back. Layout: one block for each
batch, with the features and then the dead letters, each as a count n (u32), n key sizes (u32,
0xFFFFFFFF for a missing key), n value sizes (u32), all keys, all values. Little-endian.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final

import numpy as np

from schemas.errors import UnreadableValue

_NO_KEY: Final = 0xFFFFFFFF
Keyed = tuple[list[bytes | None], list[bytes]]


@dataclass(frozen=True, slots=True)
class Messages:
    """The messages of one source partition, in order: feature vectors and dead letters."""

    keys: list[bytes | None] = field(default_factory=list)
    vectors: list[bytes] = field(default_factory=list)
    dead_keys: list[bytes | None] = field(default_factory=list)
    dead_letters: list[bytes] = field(default_factory=list)

    def columns(self) -> tuple[list[Any], ...]:
        """Return the four lists."""
        return self.keys, self.vectors, self.dead_keys, self.dead_letters


def pack(messages: Messages) -> bytes:
    """Return `messages` as one block, or b"" for no messages.

    >>> unpack(pack(Messages([b"card"], [b"vector"]))).vectors
    [b'vector']
    """
    if not messages.vectors and not messages.dead_letters:
        return b""
    features = _pack(messages.keys, messages.vectors)
    return features + _pack(messages.dead_keys, messages.dead_letters)


def unpack(data: bytes) -> Messages:
    """Return the messages of all blocks of an outbox.

    Raises:
        UnreadableValue: the outbox is damaged; the partition must not be processed.
    """
    messages, place = Messages(), 0
    while place < len(data):
        features, place = _unpack(data, place)
        dead, place = _unpack(data, place)
        parts: list[list[Any]] = [*features, *dead]
        for into, part in zip(messages.columns(), parts, strict=True):
            into.extend(part)
    return messages


def _pack(keys: list[bytes | None], values: list[bytes]) -> bytes:
    count = len(values)
    if None in keys:
        sizes = np.array([_NO_KEY if key is None else len(key) for key in keys], "<u4")
        whole = b"".join(filter(None, keys))
    else:
        sizes = np.fromiter(map(len, keys), "<u4", count)  # type: ignore[arg-type]
        whole = b"".join(keys)  # type: ignore[arg-type]
    value_sizes = np.fromiter(map(len, values), "<u4", count)
    parts = [count.to_bytes(4, "little"), sizes.tobytes(), value_sizes.tobytes(), whole, *values]
    return b"".join(parts)


def _unpack(data: bytes, place: int) -> tuple[Keyed, int]:
    count = int.from_bytes(data[place : place + 4], "little")
    start = place + 4 + 8 * count
    if start > len(data):
        raise UnreadableValue(f"the outbox is damaged: it ends early, at byte {len(data)}")
    sizes = np.frombuffer(data, "<u4", 2 * count, place + 4)
    lengths = np.where(sizes == _NO_KEY, 0, sizes).tolist()
    ends = list(accumulate(lengths, initial=start))
    if ends[-1] > len(data):
        raise UnreadableValue(f"the outbox is damaged: it ends early, at byte {len(data)}")
    parts = list(map(data.__getitem__, map(slice, ends[:-1], ends[1:])))
    keys: list[bytes | None] = list(parts[:count])
    for missing in np.flatnonzero(sizes[:count] == _NO_KEY).tolist():
        keys[missing] = None
    return (keys, parts[count:]), ends[-1]
