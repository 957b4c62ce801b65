"""Commits batches to the feature store and publishes their messages.

Each input record takes effect exactly once: state, cursor and outbox change in one commit, which
the store refuses under an old epoch. Each message is published at least once: it stays in the
outbox until Kafka has acknowledged it, and the next owner of the partition publishes the outbox
again. So the output may hold repeated messages, always with the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Final

from runtime.feature_store.protocol import NO_CURSOR, Commit, FeatureStore, PartitionAdvance
from runtime.kafka.protocols import BY_KEY, Producer, TopicPartition
from runtime.metrics import Metrics
from schemas.errors import EmptyStore, Fenced, TemporaryError, UnreadableValue
from schemas.features import DAY
from stream_features.engine.passes.workspace import RETENTION
from stream_features.engine.state.blob import FORMAT, NEW_SHARED
from stream_features.worker.computation import Computed
from stream_features.worker.outbox import Messages, pack, unpack
from stream_features.worker.stages import StageTimers

SPARE_MS: Final = 8 * DAY
"""Added to the time to live of entities, to allow for outages and for clocks that differ."""
CommittedPositions = Callable[[Sequence[int]], Mapping[TopicPartition, int]]
"""Returns Kafka's committed next offsets for some partition numbers, of both input topics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTopics:
    """The full names of the topics that the worker reads and writes.

    `partitions` is the number that those keyed by card have, and that is served; should somebody add
    more, these wait until all the topics have them and the setting says so.
    """

    transactions: str
    labels: str
    features: str
    dead_letter: str
    partitions: int


def entity_ttl_ms(label_delay_ms: int) -> int:
    """Return the time to live (ms) of an entity after its last change, for a label delay."""
    return RETENTION + label_delay_ms + SPARE_MS


class PublicationFailed(Exception):
    """A batch was committed but not fully published: take over again, to publish the outbox."""


class Commits:
    """The partition numbers owned, their epochs and cursors. Use it from one thread; calls block.

    The order of calls for each batch is `write`, then `publish`. After an exception of either, call
    `take_over` again before the next batch, because the store may have applied the commit.

    Args:
        positions: consulted for partitions without a cursor in the store. A position above 0 then
            means that the store has lost its state.
        ttl_ms: time to live of an entity after its last change; see `entity_ttl_ms`.
        max_unconfirmed: bytes of unacknowledged messages above which `write` waits for Kafka.
    """

    def __init__(
        self,
        *,
        topics: WorkerTopics,
        store: FeatureStore,
        producer: Producer,
        positions: CommittedPositions,
        metrics: Metrics,
        stages: StageTimers,
        ttl_ms: int,
        max_unconfirmed: int = 500_000,
    ) -> None:
        self.cursors: dict[TopicPartition, int] = {}
        """Committed next offsets; NO_CURSOR for a partition without one."""
        self.epochs: dict[int, int] = {}
        """Epochs of the partition numbers owned."""
        self._names, self._store, self._producer = topics, store, producer
        self._positions, self._metrics, self._stages = positions, metrics, stages
        self._ttl_ms = ttl_ms
        self._max_unconfirmed = max_unconfirmed
        self._unconfirmed: dict[int, list[bytes]] = {}

    def forget(self) -> None:
        """Forget all partition numbers; the store still knows this owner until the next one."""
        self.cursors.clear()
        self.epochs.clear()
        self._unconfirmed.clear()

    def take_over(self, numbers: Iterable[int]) -> None:
        """Become the owner of partition numbers and publish their outboxes; waits for Kafka.

        Fences the previous owners. It is safe to repeat.

        Raises:
            EmptyStore: the store has lost the state of one of them.
            ConfigurationError: the store holds state in another format.
            UnreadableValue: a position, an epoch or an outbox is damaged.
            TemporaryError: the store or Kafka does not answer; call again.
        """
        self._store.claim_format(FORMAT)
        for number in sorted(numbers):
            owned = self._store.acquire(number)
            self._refuse_empty(number, owned.cursors)
            self._produce(number, self._unpacked(number, owned.outbox))
            for topic in (self._names.transactions, self._names.labels):
                self.cursors[TopicPartition(topic, number)] = owned.cursors.get(topic, NO_CURSOR)
            self.epochs[number] = owned.epoch
        self._producer.flush()

    def write(self, computed: Computed, nexts: Mapping[TopicPartition, int]) -> None:
        """Commit the state changes of a batch and move the cursors to `nexts`, all or nothing.

        `nexts` are the next offsets of every partition that the batch has records of. The messages
        go into the outbox with the commit, so a crash before `publish` does not lose them.

        Raises:
            Fenced: another worker owns one of the partitions; nothing was written.
            TemporaryError: the store or Kafka does not answer. The commit may have been applied.
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
        """Queue messages for Kafka without waiting for the acknowledgement.

        Raises:
            PublicationFailed: some were not queued; they are still in the outbox.
        """
        try:
            with self._stages.time("publish"):
                for number, some in messages.items():
                    self._produce(number, some)
        except TemporaryError as error:
            raise PublicationFailed(str(error)) from error

    def _unpacked(self, number: int, outbox: bytes) -> Messages:
        try:
            return unpack(outbox)
        except UnreadableValue as error:
            raise UnreadableValue(
                f"{error} (the value of p:{number}:outbox, under FRAUD_TOPIC_PREFIX): stop the "
                "stream processors, delete the keys under that prefix and run `python -m "
                "stream_features rebuild`"
            ) from error

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
        """Drop acknowledged messages from the outbox; wait for Kafka if it holds too many bytes."""
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
                    "store has lost its state: run `python -m stream_features rebuild`, or start "
                    "with --from-start to compute and publish everything again"
                )
