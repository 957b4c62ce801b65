"""The outbox: what Kafka may not have yet of one partition, as one byte string stored by the commit.

`worker` writes it, and reads it back when it takes a partition over. Layout: a block for each
batch; in it features, then dead letters, each as a count (u32), n sizes of keys (u32, 0xFFFFFFFF
for no key), n sizes of values (u32), all keys, all values; little-endian.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final

import numpy as np

from schemas.errors import FatalError

_NO_KEY: Final = 0xFFFFFFFF
Keyed = tuple[list[bytes | None], list[bytes]]


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages of one source partition in order: vectors for `features`, dead letters."""

    keys: list[bytes | None] = field(default_factory=list)
    vectors: list[bytes] = field(default_factory=list)
    dead_keys: list[bytes | None] = field(default_factory=list)
    dead_letters: list[bytes] = field(default_factory=list)

    def columns(self) -> tuple[list[Any], ...]:
        """Return the four lists."""
        return self.keys, self.vectors, self.dead_keys, self.dead_letters


def pack(messages: Messages) -> bytes:
    """Return one block with `messages`; b"" if there are none.

    >>> unpack(pack(Messages([b"card"], [b"vector"]))).vectors
    [b'vector']
    """
    if not messages.vectors and not messages.dead_letters:
        return b""
    features = _pack(messages.keys, messages.vectors)
    return features + _pack(messages.dead_keys, messages.dead_letters)


def unpack(data: bytes) -> Messages:
    """Return the messages of an outbox, all blocks together.

    Raises:
        FatalError: damaged; the partition must not go on.
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
        raise FatalError(f"outbox is cut short at byte {len(data)}: it is damaged")
    sizes = np.frombuffer(data, "<u4", 2 * count, place + 4)
    lengths = np.where(sizes == _NO_KEY, 0, sizes).tolist()
    ends = list(accumulate(lengths, initial=start))
    if ends[-1] > len(data):
        raise FatalError(f"outbox is cut short at byte {len(data)}: it is damaged")
    parts = list(map(data.__getitem__, map(slice, ends[:-1], ends[1:])))
    keys: list[bytes | None] = list(parts[:count])
    for missing in np.flatnonzero(sizes[:count] == _NO_KEY).tolist():
        keys[missing] = None
    return (keys, parts[count:]), ends[-1]
