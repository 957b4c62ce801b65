"""What a feature store is: the Protocol and its records. The stream processor calls it.

`feature_store` has it on Redis, `memory` in memory; one test-suite runs against both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from schemas.errors import ConfigurationError
from schemas.keys import EntityKind

NO_CURSOR: Final = -1
"""The cursor of a partition of which nothing was processed yet."""
RETENTION_MS: Final = 45 * 86_400_000
"""Default life of an entity after its last write: 30 days, the label delay and some room."""


def refuse_format(found: int, version: int) -> None:
    """Raise ConfigurationError unless both are equal."""
    if found != version:
        raise ConfigurationError(
            f"the feature store holds state of format {found}, this version writes format "
            f"{version}: empty it and run `python -m stream_features rebuild`, or use another "
            "FRAUD_TOPIC_PREFIX"
        )


class FoldLike(Protocol):
    """Replace a shared entity by `value` if it is as it was read, else append `records`.

    It is as it was read if its first four bytes (little-endian) are `expected_generation` and its
    length is `expected_length`; an absent value has generation 0 and length 0.
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
    """The plain form of `FoldLike`."""

    key: bytes
    expected_generation: int
    expected_length: int
    value: bytes
    records: bytes


class PartitionAdvance(NamedTuple):
    """Move the cursor of one partition of `topic` from `expected` to `next` (offsets to read)."""

    topic: str
    partition: int
    expected: int
    next: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One atomic change: all of it, or nothing if an epoch or a cursor is not as expected.

    `epochs` by partition number. `cards` are (key, whole value); `appends` (key, records) for
    shared entities. `header` goes in front of the records of an entity that does not exist yet.
    `outbox` replaces what is stored for the partitions it names; b"" clears it. Every entity that
    is written lives `ttl_ms` from now; cursors, epochs and outboxes do not expire.
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
    """Whether a commit was applied, and if not, why."""

    accepted: bool
    reason: str = ""


class Ownership(NamedTuple):
    """A partition number taken over: its new epoch, cursors by topic, last outbox (b"": none)."""

    epoch: int
    cursors: dict[str, int]
    outbox: bytes


class FeatureStore(Protocol):
    """State, cursors, epochs and outboxes. Thread-safe; every call blocks.

    Every method raises StoreUnavailable when the store does not answer. A commit that raised it may
    have been applied: acquire the partitions again before going on.
    """

    def load(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the value of each key, None where there is none."""

    def claim_format(self, version: int) -> None:
        """Note the format of the values where none is noted yet.

        Raises:
            ConfigurationError: values of another format are there.
        """

    def acquire(self, partition: int) -> Ownership:
        """Take a partition number over; whoever had it is fenced from now on."""

    def commit(self, commit: Commit) -> CommitResult:
        """Apply all of `commit`, or nothing."""

    def positions(self, partitions: Sequence[int]) -> dict[int, dict[str, int]]:
        """Return the cursors of partition numbers by topic, without taking anything over."""

    def exchange_watermark(
        self, worker: str, event_time: int | None, ttl_ms: int = 5_000
    ) -> dict[str, int]:
        """Publish how far a lagging worker is (ms; None withdraws); return the other workers'.

        An entry lives `ttl_ms` after its last publication.
        """

    def entities(self, kind: EntityKind) -> Iterator[list[tuple[bytes, int]]]:
        """Yield (key, bytes of memory with key and overhead) of every entity of a kind, in pieces.

        An entity that is written meanwhile may come twice or not at all.
        """

    def ping(self) -> None:
        """Return if the store answers."""

    def close(self) -> None:
        """Let go of the connections."""
