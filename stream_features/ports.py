"""What the batch cycle needs from outside: store, publisher and the computation. `worker` uses it.

The Redis store, the Kafka publisher and the engine are adapted to these in `app`; tests bring
in-memory ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt

from stream_features.outbox import Outgoing


class Position(NamedTuple):
    """A cursor: the next offset to read of one partition of a topic."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Ownership:
    """A partition taken over: the new epoch, cursors by topic (absent: none), last outbox."""

    epoch: int
    cursors: Mapping[str, int]
    outbox: bytes = b""


@dataclass(frozen=True, slots=True)
class StateChanges:
    """What one batch does to the state, in the store's own terms."""

    cards: Sequence[Any] = ()
    appends: Sequence[Any] = ()
    folds: Sequence[Any] = ()


@dataclass(frozen=True, slots=True)
class BatchCommit:
    """One atomic commit. `advances` are (expected, next); -1 is "no cursor yet"."""

    epochs: Mapping[int, int]
    advances: Mapping[Position, tuple[int, int]]
    changes: StateChanges
    outbox: Mapping[int, bytes] = field(default_factory=dict)


class Store(Protocol):
    """Where state, cursors and the outbox live. Every call blocks.

    All raise StoreUnavailable when it does not answer.
    """

    def acquire(self, partition: int) -> Ownership:
        """Take a partition over by a new epoch."""

    def commit(self, batch: BatchCommit) -> None:
        """Write all or nothing; raises Fenced if an epoch or a cursor is not as expected."""


class Publisher(Protocol):
    """Sends messages to explicit partitions."""

    def produce(self, partition: int, messages: Sequence[Outgoing]) -> None:
        """Hand messages over without waiting for the broker."""

    def flush(self) -> None:
        """Wait until the broker has all of them; raises TemporaryError, to be called again."""


class Decoded(Protocol):
    """n decoded transactions, good and rejected."""

    @property
    def time(self) -> npt.NDArray[np.int64]:
        """Event times (ms), shape (n,); `ordering.NO_TIME` where rejected."""

    @property
    def ids(self) -> Sequence[bytes]:
        """The n transaction ids; empty where rejected."""

    def take(self, rows: npt.NDArray[np.int64]) -> Self:
        """Return these rows, in this order."""

    def join(self, other: Self) -> Self:
        """Return the rows of both."""


class Computed(NamedTuple):
    """Result of a batch: state changes, and what to publish by partition."""

    changes: StateChanges
    messages: Mapping[int, Sequence[Outgoing]]


class Computation(Protocol):
    """Decoder, engine and encoder as one. Blocks; `transactions` and `labels` read the store."""

    def decode(self, records: Sequence[Any]) -> Decoded:
        """Decode transaction records (aiokafka ConsumerRecord) in the given order."""

    def transactions(self, batch: Any) -> Computed:
        """Compute decoded transactions in order; must not change anything outside."""

    def labels(self, records: Sequence[Any]) -> Computed:
        """Compute label records in order."""
