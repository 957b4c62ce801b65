"""The protocol of the feature store, which holds the state of the stream processor.

`redis` implements it on Redis and `memory` in this process; one test suite runs against both.

A partition number stands for the partitions of that number of all input topics, which always have
the same owner. For each number the store keeps an epoch (which owner is the current one), a cursor
by topic (the next offset to process) and an outbox (messages that may not have reached Kafka). A
commit changes entities, cursors and outboxes together, and only under the current epoch. So every
input record changes the state exactly once, and a worker that was replaced can do no harm:

>>> from runtime.feature_store.memory import MemoryFeatureStore
>>> store = MemoryFeatureStore()
>>> first = store.acquire(0).epoch
>>> advance = PartitionAdvance("transactions", 0, expected=NO_CURSOR, next=10)
>>> store.commit(Commit(epochs={0: first}, advances=[advance], cards=[(b"card", b"state")]))
CommitResult(accepted=True, reason='')
>>> second = store.acquire(0)
>>> second.cursors, store.load([b"card", b"other"])
({'transactions': 10}, [b'state', None])
>>> store.commit(Commit(epochs={0: first})).accepted
False
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from schemas.errors import ConfigurationError
from schemas.keys import EntityKind

NO_CURSOR: Final = -1
"""The cursor of a partition of which nothing has been processed yet."""
RETENTION_MS: Final = 45 * 86_400_000
"""Default time to live after the last write: 30 days, the label delay and a margin."""


def refuse_format(found: int, version: int) -> None:
    """Raise ConfigurationError unless `found` equals `version`."""
    if found != version:
        raise ConfigurationError(
            f"the feature store holds state of format {found}, but this version writes format "
            f"{version}: empty it and run `python -m stream_features rebuild`, or use another "
            "FRAUD_TOPIC_PREFIX"
        )


class FoldLike(Protocol):
    """Replaces a shared entity by `value` if it is unchanged, otherwise appends `records`.

    It is unchanged if its first four bytes (little-endian) are `expected_generation` and its length
    is `expected_length`; a missing value has generation 0 and length 0.
    """

    @property
    def key(self) -> bytes: ...  # noqa: D102
    @property
    def expected_generation(self) -> int: ...  # noqa: D102
    @property
    def expected_length(self) -> int: ...  # noqa: D102
    @property
    def value(self) -> bytes: ...  # noqa: D102
    @property
    def records(self) -> bytes: ...  # noqa: D102


class Fold(NamedTuple):
    """A plain tuple that satisfies `FoldLike`."""

    key: bytes
    expected_generation: int
    expected_length: int
    value: bytes
    records: bytes


class PartitionAdvance(NamedTuple):
    """Moves the cursor of one partition of `topic` from `expected` to `next`."""

    topic: str
    partition: int
    expected: int
    next: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One atomic change, refused as a whole if an epoch or a cursor is not as expected.

    Attributes:
        epochs: the epoch of every partition number that the commit is made for, as acquired.
        advances: cursors to move.
        cards: (key, whole value); replaces the value.
        appends: (key, records) of shared entities. Appends of several workers to one entity
            commute, so no epoch protects it.
        folds: rewrites of shared entities that have grown long.
        outbox: replaces the outbox of the partition numbers that it names; b"" clears it.
        header: put in front of the records of an entity that does not exist yet.
        ttl_ms: time to live of every entity written; cursors, epochs and outboxes do not expire.
    """

    epochs: Mapping[int, int]
    advances: Sequence[PartitionAdvance] = ()
    cards: Sequence[tuple[bytes, bytes]] = ()
    appends: Sequence[tuple[bytes, bytes]] = ()
    folds: Sequence[FoldLike] = ()
    outbox: Mapping[int, bytes] = field(default_factory=dict)
    header: bytes = b""
    ttl_ms: int = RETENTION_MS


class CommitResult(NamedTuple):
    """The answer to a commit; `reason` says why it was refused."""

    accepted: bool
    reason: str = ""


class Ownership(NamedTuple):
    """A partition number taken over: the new epoch, cursors by topic, and the outbox or b""."""

    epoch: int
    cursors: dict[str, int]
    outbox: bytes


class FeatureStore(Protocol):
    """State, cursors, epochs and outboxes. Thread-safe; every call blocks.

    Every method raises StoreUnavailable when the store does not answer. A commit that raised it may
    have been applied all the same: do not repeat it, but acquire its partitions again and continue
    from their cursors. UnreadableValue says that an epoch, a cursor, an outbox or the format is not
    what a worker wrote; values of entities are returned as they are.
    """

    def load(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the value of each key, None for a missing one."""

    def claim_format(self, version: int) -> None:
        """Record the format of the values, unless one is recorded already.

        Raises:
            ConfigurationError: the store holds values of another format.
        """

    def acquire(self, partition: int) -> Ownership:
        """Take a partition number over: its epoch grows, and commits of the old owner fail."""

    def commit(self, commit: Commit) -> CommitResult:
        """Apply all of `commit` or nothing; a refusal is returned, not raised."""

    def positions(self, partitions: Sequence[int]) -> dict[int, dict[str, int]]:
        """Return the cursors of partition numbers by topic, without taking them over."""

    def exchange_watermark(
        self, worker: str, event_time: int | None, ttl_ms: int = 5_000
    ) -> dict[str, int]:
        """Publish the event time that a lagging worker has reached; return those of the others.

        `event_time` is in ms since the epoch; None withdraws the worker's entry. An entry expires
        `ttl_ms` after it was last published.
        """

    def entities(self, kind: EntityKind) -> Iterator[list[tuple[bytes, int]]]:
        """Yield lists of (key, bytes of memory with key and overhead) for every entity of a kind.

        An entity that is written meanwhile may appear twice or not at all.
        """

    def ping(self) -> None:
        """Return if the store answers; otherwise raise StoreUnavailable."""

    def close(self) -> None:
        """Close the connections."""
