"""Commit and publication of batches: cursors, epochs, outbox. `worker` calls it, from one thread.

What Kafka has not acknowledged yet stays in the outbox of its partition, from commit to commit;
whoever takes the partition over publishes it again, the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Final

from runtime.feature_store.protocol import NO_CURSOR, Commit, FeatureStore, PartitionAdvance
from runtime.kafka.protocols import BY_KEY, Producer, TopicPartition
from runtime.metrics import Metrics
from schemas.errors import EmptyStore, Fenced, TemporaryError
from schemas.features import DAY
from stream_features.engine.passes.workspace import RETENTION
from stream_features.engine.state.blob import FORMAT, NEW_SHARED
from stream_features.worker.computation import Computed
from stream_features.worker.outbox import Messages, pack, unpack
from stream_features.worker.stages import Stages

SPARE_MS: Final = 8 * DAY
"""How much longer an entity lives than the engine looks back: for outages and clocks that differ."""
Positions = Callable[[Sequence[int]], Mapping[TopicPartition, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """Full names of the topics that the worker reads and writes."""

    transactions: str
    labels: str
    features: str
    dead_letter: str


def life_ms(label_delay_ms: int) -> int:
    """Return how long an entity lives after its last change, if labels count after so long."""
    return RETENTION + label_delay_ms + SPARE_MS


class Unpublished(Exception):
    """A batch was committed, not handed to Kafka: it must be republished from the outbox."""


class Commits:
    """The partition numbers owned now, and what was committed of them. Every method blocks.

    Args:
        positions: Kafka's committed positions of partition numbers, asked where the store has none;
            a position above 0 there means that the store has lost its state.
        ttl_ms: how long an entity lives after its last change; see `life_ms`.
        max_unconfirmed: bytes of messages beyond which a commit waits for Kafka's acknowledgement.
    """

    def __init__(
        self,
        *,
        topics: Topics,
        store: FeatureStore,
        producer: Producer,
        positions: Positions,
        metrics: Metrics,
        stages: Stages,
        ttl_ms: int,
        max_unconfirmed: int = 500_000,
    ) -> None:
        self.cursors: dict[TopicPartition, int] = {}
        """Committed next offsets; NO_CURSOR where the store has none yet."""
        self.epochs: dict[int, int] = {}
        """Of the partition numbers owned now."""
        self._names, self._store, self._producer = topics, store, producer
        self._positions, self._metrics, self._stages = positions, metrics, stages
        self._ttl_ms = ttl_ms
        self._max_unconfirmed = max_unconfirmed
        self._unconfirmed: dict[int, list[bytes]] = {}

    def forget(self) -> None:
        """Own nothing."""
        self.cursors.clear()
        self.epochs.clear()
        self._unconfirmed.clear()

    def take_over(self, numbers: Iterable[int]) -> None:
        """Own these partition numbers and publish their outboxes.

        Raises:
            EmptyStore: the store has lost the state of one of them.
            ConfigurationError: the store holds state in another format.
            TemporaryError: store or Kafka do not answer; call again.
        """
        self._store.claim_format(FORMAT)
        for number in sorted(numbers):
            owned = self._store.acquire(number)
            self._refuse_empty(number, owned.cursors)
            self._produce(number, unpack(owned.outbox))
            for topic in (self._names.transactions, self._names.labels):
                self.cursors[TopicPartition(topic, number)] = owned.cursors.get(topic, NO_CURSOR)
            self.epochs[number] = owned.epoch
        self._producer.flush()

    def write(self, computed: Computed, nexts: Mapping[TopicPartition, int]) -> None:
        """Write what a batch did and move the cursors to `nexts`, all or nothing.

        Raises:
            Fenced: a partition is owned elsewhere.
            TemporaryError: store or Kafka do not answer; it may have been written.
        """
        with self._stages.time("acknowledge"):
            self._confirm()
        blocks = {number: pack(some) for number, some in computed.messages.items()}
        with self._stages.time("commit"):
            result = self._store.commit(
                Commit(
                    epochs={at.partition: self.epochs[at.partition] for at in nexts},
                    advances=[
                        PartitionAdvance(*at, self.cursors[at], offset)
                        for at, offset in nexts.items()
                    ],
                    ttl_ms=self._ttl_ms,
                    cards=computed.cards,
                    appends=computed.appends,
                    folds=computed.folds,
                    outbox={
                        number: b"".join([*self._unconfirmed.get(number, ()), block])
                        for number, block in blocks.items()
                    },
                    header=NEW_SHARED,
                )
            )
        if not result.accepted:
            raise Fenced(result.reason)
        self.cursors.update(nexts)
        for number, block in blocks.items():
            self._unconfirmed.setdefault(number, []).append(block)

    def publish(self, messages: Mapping[int, Messages]) -> None:
        """Hand messages over to Kafka, without waiting for it.

        Raises:
            Unpublished: it did not take all of them.
        """
        try:
            with self._stages.time("publish"):
                for number, some in messages.items():
                    self._produce(number, some)
        except TemporaryError as error:
            raise Unpublished(str(error)) from error

    def _produce(self, number: int, some: Messages) -> None:
        if some.vectors:
            outgoing = zip(repeat(number), some.keys, some.vectors, strict=False)
            self._producer.produce_many(self._names.features, outgoing)
            self._metrics.count("published", len(some.vectors), topic=self._names.features)
        if some.dead_letters:
            dead = zip(repeat(BY_KEY), some.dead_keys, some.dead_letters, strict=False)
            self._producer.produce_many(self._names.dead_letter, dead)
            self._metrics.count("published", len(some.dead_letters), topic=self._names.dead_letter)

    def _confirm(self) -> None:
        """Forget what Kafka has acknowledged; wait for it where too much would be kept."""
        if not self._unconfirmed:
            return
        kept = sum(len(block) for blocks in self._unconfirmed.values() for block in blocks)
        if kept > self._max_unconfirmed:
            self._producer.flush()
        else:
            try:
                self._producer.flush(0.0)
            except TemporaryError:
                return
        self._unconfirmed.clear()

    def _refuse_empty(self, number: int, cursors: Mapping[str, int]) -> None:
        if {self._names.transactions, self._names.labels} <= cursors.keys():
            return
        for at, committed in self._positions([number]).items():
            if committed > 0 and at.topic not in cursors:
                raise EmptyStore(
                    f"{at.topic}[{at.partition}] is committed up to {committed}, but the feature "
                    "store has no state of it: run `python -m stream_features rebuild`, or start "
                    "with --from-start to compute and publish everything again"
                )
