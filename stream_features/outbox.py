"""The outbox: what one batch publishes for one partition, as one byte string stored by the commit.

`worker` writes it, and reads it back when it takes a partition over. Layout, repeated: topic u8
(0 features, 1 dead letters), length of key u32 (0xFFFFFFFF: no key), length of value u32, key, value.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from schemas.errors import FatalError

FEATURES: Final = 0
DEAD_LETTER: Final = 1
_HEADER: Final = struct.Struct("<BII")
_NO_KEY: Final = 0xFFFFFFFF


class Outgoing(NamedTuple):
    """One message to publish."""

    topic: int
    key: bytes | None
    value: bytes


def pack(messages: Iterable[Outgoing]) -> bytes:
    """Return the byte string of `messages`, in order.

    >>> unpack(pack([Outgoing(FEATURES, b"card", b"vector")]))
    [Outgoing(topic=0, key=b'card', value=b'vector')]
    """
    parts: list[bytes] = []
    for topic, key, value in messages:
        size = _NO_KEY if key is None else len(key)
        parts += (_HEADER.pack(topic, size, len(value)), key or b"", value)
    return b"".join(parts)


def unpack(data: bytes) -> list[Outgoing]:
    """Return the messages of an outbox.

    Raises:
        FatalError: damaged; the partition must not go on.
    """
    messages: list[Outgoing] = []
    place = 0
    while place < len(data):
        try:
            topic, key_size, value_size = _HEADER.unpack_from(data, place)
        except struct.error as error:
            raise FatalError(f"outbox is cut short at byte {place} of {len(data)}") from error
        start = place + _HEADER.size
        middle = start + (0 if key_size == _NO_KEY else key_size)
        place = middle + value_size
        if place > len(data) or topic not in (FEATURES, DEAD_LETTER):
            raise FatalError(f"outbox is damaged before byte {place} of {len(data)}")
        key = None if key_size == _NO_KEY else data[start:middle]
        messages.append(Outgoing(topic, key, data[middle:place]))
    return messages
