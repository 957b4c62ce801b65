"""What the gateway remembers of transactions: those under way and the newest that were decided.

Used on the event loop's thread only.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from schemas.records import Transaction

MAX_REMEMBERED: Final = 50_000
"""Transactions remembered, about 1 kB each."""


def digest(value: bytes) -> bytes:
    """Return what tells the content of two transactions apart."""
    return hashlib.blake2b(value, digest_size=16).digest()


@dataclass(slots=True, eq=False)
class IdempotencyEntry:
    """One transaction_id. While `future` is there, requests wait for it.

    `content` is None for a transaction that came another way. `message` is the Decision as it came
    on its topic; `fallback` the answer that was given instead, if it was.
    """

    card: bytes
    content: bytes | None = None
    transaction: Transaction | None = None
    future: asyncio.Future[bytes] | None = None
    timer: asyncio.TimerHandle | None = None
    position: tuple[int, int] | None = None
    message: bytes | None = None
    fallback: bytes | None = None

    def acknowledged(self, partition: int, offset: int) -> None:
        """Note where Kafka put the transaction."""
        self.position = (partition, offset)


class IdempotencyCache:
    """Entries by transaction_id (UTF-8), at most `most` of them beside those under way."""

    def __init__(self, max_entries: int = MAX_REMEMBERED) -> None:
        self._max_entries = max_entries
        self._entries: OrderedDict[bytes, IdempotencyEntry] = OrderedDict()

    def get(self, identity: bytes) -> IdempotencyEntry | None:
        """Return the entry of an id."""
        return self._entries.get(identity)

    def add(self, identity: bytes, entry: IdempotencyEntry) -> None:
        """Remember an entry; the oldest is forgotten when there are too many."""
        entries = self._entries
        entries[identity] = entry
        while len(entries) > self._max_entries:
            oldest = next(iter(entries))
            if entries[oldest].future is not None:
                entries.move_to_end(oldest)
                return
            del entries[oldest]

    def remove(self, identity: bytes) -> None:
        """Forget an id."""
        self._entries.pop(identity, None)

    def __len__(self) -> int:
        """Entries remembered."""
        return len(self._entries)

    def __iter__(self) -> Iterator[IdempotencyEntry]:
        """Every entry, the oldest first."""
        return iter(self._entries.values())
