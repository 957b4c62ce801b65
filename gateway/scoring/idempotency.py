"""The idempotency cache: pending transactions and the newest decided ones, by transaction_id.

Not thread-safe: use it on the event loop's thread.
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
"""Transactions in the cache, about 1 kB each."""


def digest(value: bytes) -> bytes:
    """Return a digest that identifies the content of a transaction."""
    return hashlib.blake2b(value, digest_size=16).digest()


@dataclass(slots=True, eq=False)
class IdempotencyEntry:
    """The state of one transaction_id. While `future` is set, requests are waiting for it.

    `content` is the digest, or None if the transaction did not come through this gateway. `message`
    is the encoded Decision, `fallback` the answer given in its place, `position` the partition and
    offset once Kafka has acknowledged the transaction.
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
        """Record the transaction's position on its topic."""
        self.position = (partition, offset)


class IdempotencyCache:
    """Entries by transaction_id (UTF-8): at most `max_entries`, not counting pending ones."""

    def __init__(self, max_entries: int = MAX_REMEMBERED) -> None:
        self._max_entries = max_entries
        self._entries: OrderedDict[bytes, IdempotencyEntry] = OrderedDict()

    def get(self, identity: bytes) -> IdempotencyEntry | None:
        """Return the entry of an id, or None."""
        return self._entries.get(identity)

    def add(self, identity: bytes, entry: IdempotencyEntry) -> None:
        """Add an entry; the oldest decided ones are evicted if there are too many."""
        entries = self._entries
        entries[identity] = entry
        while len(entries) > self._max_entries:
            oldest = next(iter(entries))
            if entries[oldest].future is not None:
                entries.move_to_end(oldest)
                return
            del entries[oldest]

    def remove(self, identity: bytes) -> None:
        """Remove an id; harmless if it is absent."""
        self._entries.pop(identity, None)

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._entries)

    def __iter__(self) -> Iterator[IdempotencyEntry]:
        """Iterate over the entries, the oldest first."""
        return iter(self._entries.values())
