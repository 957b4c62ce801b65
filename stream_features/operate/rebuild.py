"""Rebuilds the state from Kafka after the store was lost, publishing nothing.

`transactions` are replayed up to the last vector on `features`, and `labels` up to the committed
positions of the group. The live worker continues from there, so every transaction has its vector
once. An interrupted rebuild resumes where it stopped. Where Kafka has deleted records that the state
was made of, it refuses, unless the operator accepts a state without them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from runtime.clock import SystemClock
from runtime.feature_store.protocol import NO_CURSOR, Commit, FeatureStore, PartitionAdvance
from runtime.kafka.protocols import Message, Outgoing, TopicPartition
from runtime.kafka.reader import KafkaReader, end_offsets, read_tail
from runtime.metrics import Metrics
from runtime.settings import Settings
from schemas.codec.vectors import decode_feature_vectors
from schemas.dead_letters import SERVICE
from schemas.errors import BadMessage, ConfigurationError, FatalError, Fenced
from schemas.validation import read_label
from stream_features.operate.lost_history import LostHistory, lost_history
from stream_features.worker.arrivals import Arrivals
from stream_features.worker.assembly import build_worker, group_positions, topics_of
from stream_features.worker.computation import Computation, Computed
from stream_features.worker.cycle import Worker
from stream_features.worker.ordering import NO_TIME

BATCH: Final = 5_000
TAIL: Final = 5_000
"""Vectors read at the end of a partition: more than the largest batch that may be repeated."""
Progress = Callable[[int, int], None]
"""Called with the number of records processed and the total."""
Warn = Callable[[str], None]
"""Called with what is missing from the state."""


class _RefusingProducer:
    """A producer that refuses every message."""

    def produce_many(self, topic: str, records: Iterable[Outgoing]) -> None:
        raise FatalError(f"a rebuild must not publish to {topic}")

    def produce(
        self, topic: str, key: bytes | None, value: bytes | None, partition: int = -1
    ) -> None:
        raise FatalError(f"a rebuild must not publish to {topic}")

    def flush(self, timeout_s: float = 10.0) -> None:
        return

    def close(self) -> None:
        return


class _WithoutMessages:
    """A computation that drops its messages, which were published before the state was lost."""

    def __init__(self, inner: Computation) -> None:
        self._inner = inner

    def decode(self, records: Mapping[int, Sequence[Any]]) -> Arrivals:
        return self._inner.decode(records)

    def transactions(self, batch: Arrivals) -> Computed:
        return replace(self._inner.transactions(batch), messages={})

    def labels(self, records: Sequence[Any]) -> Computed:
        return replace(self._inner.labels(records), messages={})

    def refuse_transaction(self, row: Arrivals, error: Exception) -> Computed:
        return Computed()

    def refuse_label(self, record: Any, error: Exception) -> Computed:
        return Computed()


class Targets(NamedTuple):
    """The position up to which each partition must be replayed, and the newest event time there.

    A partition that was never read has position 0; without an entry, the merge would wait for it.
    """

    positions: dict[TopicPartition, int]
    newest_ms: int


def targets(settings: Settings) -> Targets:
    """Ask Kafka how far the lost state had got. Blocks.

    Raises:
        BrokerUnavailable: Kafka does not answer.
    """
    topics = topics_of(settings)
    numbers = range(settings.partitions)
    both = (topics.transactions, topics.labels)
    wanted = {TopicPartition(topic, number): 0 for topic in both for number in numbers}
    wanted |= group_positions(settings)(numbers)
    newest = 0
    for number, end in end_offsets(settings, topics.features).items():
        if end == 0:
            continue
        tail = read_tail(settings, topics.features, number, TAIL)
        vectors = decode_feature_vectors([message.value for message in tail])
        published = vectors.source_offset
        if len(published):
            wanted[TopicPartition(topics.transactions, number)] = int(published.max()) + 1
            newest = max(newest, int(vectors.event_time.max()))
    return Targets(wanted, newest or SystemClock().now_ms())


def rebuild(
    settings: Settings,
    store: FeatureStore,
    progress: Progress,
    *,
    incomplete: bool = False,
    warn: Warn = lambda text: None,
) -> int:
    """Rebuild the state up to `targets`; return the number of records replayed. Blocks.

    `incomplete` accepts a state without what Kafka has deleted, and `warn` is told what that is.

    Raises:
        ConfigurationError: Kafka has deleted records that the state needs; nothing was replayed.
        FatalError: a worker is running on the same state.
        StoreUnavailable, BrokerUnavailable: the store or Kafka does not answer.
    """
    return asyncio.run(_Rebuild(settings, store, progress).run(incomplete, warn))


class _Rebuild:
    """One rebuild: its readers and their positions."""

    def __init__(self, settings: Settings, store: FeatureStore, progress: Progress) -> None:
        self._settings, self._store, self._progress = settings, store, progress
        self._targets, self._newest_ms = targets(settings)
        self._topics = topics_of(settings)
        self._worker: Worker = build_worker(
            settings,
            store,
            _RefusingProducer(),
            Metrics(SERVICE),
            name="rebuild",
            positions=lambda _: {},
            around=self._without_messages,
        )
        self._readers: dict[TopicPartition, KafkaReader] = {}
        self._next: dict[TopicPartition, int] = {}

    def _without_messages(self, inner: Computation) -> Computation:
        self._computation = inner
        return _WithoutMessages(inner)

    async def run(self, incomplete: bool, warn: Warn) -> int:
        numbers = range(self._settings.partitions)
        places = [TopicPartition(topic, n) for topic in self._worker.topics for n in numbers]
        starts = await self._worker.start_at(places)
        self._raise_failure()
        self._miss(self._lost({at: start or 0 for at, start in starts.items()}), incomplete, warn)
        for at, target in self._targets.items():
            start = starts[at] or 0
            if start < target:
                reader = KafkaReader(self._settings, at.topic, {at.partition: start})
                self._readers[at] = reader
                self._next[at] = start
        total = sum(self._targets[at] - start for at, start in self._next.items())
        done = 0
        try:
            while self._unread() or self._worker.buffered:
                done += await self._step()
                self._progress(total - sum(self._left().values()), total)
        finally:
            for reader in self._readers.values():
                reader.close()
        self._finish()
        return done

    def _lost(self, starts: Mapping[TopicPartition, int]) -> LostHistory | None:
        return lost_history(
            self._settings, starts, self._targets, times=self._times, newest_ms=self._newest_ms
        )

    def _miss(self, lost: LostHistory | None, incomplete: bool, warn: Warn) -> None:
        """Refuse a state that lacks something, or warn of it."""
        if lost is None:
            return
        if not incomplete:
            raise ConfigurationError(
                f"{lost.text()} Restore a backup of Redis and rebuild from there, or give "
                "--incomplete to go on without them."
            )
        warn(lost.text())

    def _times(self, at: TopicPartition, records: Sequence[Message]) -> list[int]:
        """Return the event times or label times of those records that can be read."""
        if at.topic == self._topics.transactions:
            found = self._computation.decode({at.partition: records}).time
            return [time for time in found.tolist() if time != NO_TIME]
        times = []
        for record in records:
            try:
                label = read_label(record.value or b"", now_ms=record.arrived)
            except BadMessage:  # a dead letter, or in a form that only the worker reads
                continue
            times.append(label["label_time"])
        return times

    async def _step(self) -> int:
        """Read and process the next records, labels before transactions as in a live turn."""
        records: dict[TopicPartition, list[Message]] = {}
        waiting = self._unread()
        if any(at.topic == self._topics.labels for at in waiting):
            waiting = {at for at in waiting if at.topic == self._topics.labels}
        for at in sorted(self._worker.wanted(waiting)):
            batch = self._readers[at].poll_batch(BATCH, 0.02)
            self._next[at] = self._readers[at].positions()[at.partition]
            records[at] = [each for each in batch if each.offset < self._targets[at]]
        if not await self._worker.handle(records, self._targets):
            raise FatalError(
                "another worker has taken a partition over: stop every `stream_features run` first"
            )
        self._raise_failure()
        if not any(records.values()):
            time.sleep(self._worker.poll_timeout() if self._worker.buffered else 0.0)
        return sum(map(len, records.values()))

    def _left(self) -> dict[TopicPartition, int]:
        return {at: max(self._targets[at] - reached, 0) for at, reached in self._next.items()}

    def _unread(self) -> set[TopicPartition]:
        return {at for at, left in self._left().items() if left}

    def _raise_failure(self) -> None:
        if self._worker.failure is not None:
            raise self._worker.failure

    def _finish(self) -> None:
        """Move every cursor to its target, past gaps and deleted records."""
        cursors = self._worker.cursors
        behind = [
            PartitionAdvance(*at, cursors[at], target)
            for at, target in self._targets.items()
            if target > max(cursors.get(at, NO_CURSOR), 0)
        ]
        if not behind:
            return
        epochs = {each.partition: self._worker.epochs[each.partition] for each in behind}
        result = self._store.commit(Commit(epochs=epochs, advances=behind))
        if not result.accepted:
            raise Fenced(f"the rebuilt positions were not accepted: {result.reason}")
