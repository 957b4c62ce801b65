"""The idempotency cache: pending transactions and the newest decided ones.

Not thread-safe: use it on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from schemas.records import Transaction

MAX_REMEMBERED: Final = 50_000
"""Transactions in the cache, about 1 kB each."""


def digest(transaction: Transaction) -> bytes:
    """Return a digest that identifies the content of a valid transaction, whose it may be.

    Not the digest of what is sent to Kafka, which names the API key, too: a client may repeat a
    request with another key of its own.
    """
    return hashlib.blake2b(repr(transaction).encode(), digest_size=16).digest()


@dataclass(slots=True, eq=False)
class IdempotencyEntry:
    """The state of one transaction of one tenant. While `future` is set, requests wait for it.

    `tenant` is None for a decision that was only heard on its topic: whose it is, is not known.
    `content` is the digest, or None if the transaction did not come through this gateway. `message`
    is the encoded Decision, `fallback` the answer given in its place, `position` the partition and
    offset once Kafka has acknowledged the transaction.
    """

    tenant: str | None = None
    key_id: str | None = None
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


Identity = tuple[bytes, bytes]
"""transaction_id and card_id in UTF-8: an id is unique on its card only."""


class IdempotencyCache:
    """Entries by transaction and tenant: at most `max_entries`, not counting pending ones."""

    def __init__(self, max_entries: int = MAX_REMEMBERED) -> None:
        self._max_entries = max_entries
        self._entries: OrderedDict[Identity, tuple[IdempotencyEntry, ...]] = OrderedDict()
        self._newest_card: dict[bytes, bytes] = {}
        self._count = 0

    def get(self, identity: Identity, tenant: str | None) -> IdempotencyEntry | None:
        """Return a tenant's entry of a transaction, or None."""
        for entry in self.of(identity):
            if entry.tenant == tenant:
                return entry
        return None

    def of(self, identity: Identity) -> tuple[IdempotencyEntry, ...]:
        """Return the entries of a transaction, of all tenants."""
        return self._entries.get(identity, ())

    def newest_card(self, transaction_id: bytes) -> bytes | None:
        """Return the card on which an id was used last, or None."""
        return self._newest_card.get(transaction_id)

    def add(self, identity: Identity, entry: IdempotencyEntry) -> None:
        """Add an entry; the oldest decided ones are evicted if there are too many."""
        entries = self._entries
        entries[identity] = (*self.of(identity), entry)
        self._newest_card[identity[0]] = identity[1]
        self._count += 1
        while self._count > self._max_entries:
            oldest = next(iter(entries))
            if any(each.future is not None for each in entries[oldest]):
                entries.move_to_end(oldest)
                return
            self._forget(oldest)

    def remove(self, identity: Identity, entry: IdempotencyEntry) -> None:
        """Remove an entry; harmless if it is absent."""
        left = tuple(each for each in self.of(identity) if each is not entry)
        self._forget(identity)
        if left:
            self._entries[identity] = left
            self._count += len(left)

    def _forget(self, identity: Identity) -> None:
        transaction_id, card = identity
        self._count -= len(self._entries.pop(identity, ()))
        if self._newest_card.get(transaction_id) == card:
            del self._newest_card[transaction_id]

    def __len__(self) -> int:
        """Return the number of entries."""
        return self._count
