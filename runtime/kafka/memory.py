"""Kafka in memory, for tests: one broker shared by producers, consumers and readers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

from runtime.clock import Clock, SystemClock
from runtime.kafka.partitioner import partition_of
from runtime.kafka.protocols import (
    BY_KEY,
    Decide,
    Message,
    OnAssign,
    OnRevoke,
    Outgoing,
    TopicPartition,
)
from schemas.errors import BrokerUnavailable


class MemoryBroker:
    """Creates topics at first use, with `partitions` partitions each.

    A group has one member at a time: a new member takes all partitions over, as after a crash.
    Set `available` to False to simulate a broker that is away.
    """

    def __init__(self, partitions: int = 4, clock: Clock | None = None) -> None:
        self.partitions = partitions
        self.available = True
        self.arrived = threading.Condition()
        self.committed: dict[tuple[str, TopicPartition], int] = {}
        self._clock = clock or SystemClock()
        self._logs: dict[TopicPartition, list[Message]] = {}

    def log(self, at: TopicPartition) -> list[Message]:
        """Return the messages of a partition; do not change the list."""
        return self._logs.setdefault(at, [])

    def append(self, topic: str, outgoing: Outgoing) -> None:
        """Add a message at the end of its partition."""
        number, key, value = outgoing
        if number == BY_KEY:
            number = partition_of(key, self.partitions) if key is not None else 0
        with self.arrived:
            log = self.log(TopicPartition(topic, number))
            log.append(Message(topic, number, len(log), self._clock.now_ms(), key, value))
            self.arrived.notify_all()

    def places(self, topics: Sequence[str]) -> list[TopicPartition]:
        """Return every partition of `topics`."""
        return [TopicPartition(topic, n) for topic in topics for n in range(self.partitions)]


class MemoryProducer:
    """See `protocols.Producer`. While the broker is away, messages wait for `flush`."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._waiting: list[tuple[str, Outgoing]] = []

    def produce_many(self, topic: str, records: Iterable[Outgoing]) -> None:
        """Queue messages and deliver them if the broker is available."""
        self._waiting += [(topic, record) for record in records]
        self._deliver()

    def produce(
        self, topic: str, key: bytes | None, value: bytes | None, partition: int = BY_KEY
    ) -> None:
        """Queue one message, as `produce_many` does."""
        self.produce_many(topic, [(partition, key, value)])

    def flush(self, timeout_s: float = 10.0) -> None:
        """Deliver everything, or raise BrokerUnavailable; does not wait."""
        self._deliver()
        if self._waiting:
            raise BrokerUnavailable(
                f"{len(self._waiting)} messages wait for the broker: call flush again"
            )

    def close(self) -> None:
        """Deliver what can be delivered."""
        self._deliver()

    def _deliver(self) -> None:
        while self._waiting and self._broker.available:
            self._broker.append(*self._waiting.pop(0))


class _Positions:
    """Reads a set of partitions from given offsets on."""

    def __init__(self, broker: MemoryBroker, positions: dict[TopicPartition, int]) -> None:
        self._broker = broker
        self._positions = positions

    def poll_batch(self, max_records: int = 500, timeout_s: float = 1.0) -> list[Message]:
        """Return the messages that have arrived, waiting only for the first."""
        with self._broker.arrived:
            self._broker.arrived.wait_for(self._anything, timeout_s)
            return self._take(max_records) if self._broker.available else []

    def close(self) -> None:
        """Stop reading."""
        self._positions.clear()

    def _anything(self) -> bool:
        return self._broker.available and any(
            len(self._broker.log(at)) > place for at, place in self._positions.items()
        )

    def _take(self, max_records: int) -> list[Message]:
        taken: list[Message] = []
        for at, place in self._positions.items():
            fresh = self._broker.log(at)[place : place + max_records - len(taken)]
            self._positions[at] += len(fresh)
            taken += fresh
        return taken


class MemoryConsumer(_Positions):
    """See `protocols.Consumer`."""

    def __init__(
        self,
        broker: MemoryBroker,
        group: str,
        topics: Sequence[str],
        *,
        on_assign: OnAssign | None = None,
        on_revoke: OnRevoke | None = None,
    ) -> None:
        super().__init__(broker, {})
        self._group, self._on_revoke = group, on_revoke
        self._places = broker.places(topics)
        self._pending: Callable[[], None] | None = lambda: self._assign(on_assign)

    def poll_batch(self, max_records: int = 500, timeout_s: float = 1.0) -> list[Message]:
        """Return the messages that have arrived; the first call runs `on_assign`."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending()
        return super().poll_batch(max_records, timeout_s)

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Store the group's next offsets in the broker."""
        for at, offset in offsets.items():
            self._broker.committed[self._group, at] = offset

    def committed(self, at: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the group's next offsets; partitions without one are left out."""
        known = self._broker.committed
        return {place: known[self._group, place] for place in at if (self._group, place) in known}

    def seek(self, at: TopicPartition, offset: int) -> None:
        """Continue at `offset`."""
        self._positions[at] = offset

    def assignment(self) -> list[TopicPartition]:
        """Return the partitions currently assigned."""
        return list(self._positions)

    def lag(self) -> dict[TopicPartition, int]:
        """Return the unread messages of each partition."""
        return {at: len(self._broker.log(at)) - place for at, place in self._positions.items()}

    def close(self) -> None:
        """Call `on_revoke` and leave the group."""
        if self._on_revoke and self._positions:
            self._on_revoke(self.assignment())
        super().close()

    def _assign(self, on_assign: OnAssign | None) -> None:
        committed = self.committed(self._places)
        self._positions.update({at: committed.get(at, 0) for at in self._places})
        if on_assign:
            self._positions.update(on_assign(self.assignment()) or {})


class MemoryReader(_Positions):
    """See `protocols.PartitionReader`; `starts` as in `reader.KafkaReader`."""

    def __init__(
        self, broker: MemoryBroker, topic: str, starts: Mapping[int, int] | None = None
    ) -> None:
        if starts is None:
            starts = {place.partition: 0 for place in broker.places([topic])}
        self._topic = topic
        super().__init__(
            broker, {TopicPartition(topic, number): at for number, at in starts.items()}
        )

    def positions(self) -> dict[int, int]:
        """Return the next offset of each partition that is read."""
        return {place.partition: at for place, at in self._positions.items()}

    def partitions(self) -> list[int]:
        """Return the topic's partitions."""
        if not self._broker.available:
            raise BrokerUnavailable("the broker in memory is switched off")
        return [place.partition for place in self._broker.places([self._topic])]

    def lag(self) -> dict[int, int]:
        """Return the unread messages of each partition."""
        return {
            place.partition: len(self._broker.log(place)) - at
            for place, at in self._positions.items()
        }

    def read_to_end(self, timeout_s: float = 30.0) -> list[Message]:
        """Return everything up to the end, partition by partition."""
        if not self._broker.available:
            raise BrokerUnavailable("the broker in memory is switched off")
        with self._broker.arrived:
            return self._take(2**62)


class MemoryExclusiveLog:
    """See `protocols.ExclusiveLog`: a writer locks the broker while it decides."""

    def __init__(self, broker: MemoryBroker, topic: str) -> None:
        self._broker = broker
        self._at = TopicPartition(topic, 0)

    def read(self) -> list[Message]:
        """Return all entries, in order."""
        if not self._broker.available:
            raise BrokerUnavailable("the broker in memory is switched off")
        return list(self._broker.log(self._at))

    def append(self, decide: Decide) -> None:
        """Add the entries that `decide` returns."""
        with self._broker.arrived:
            for key, value in decide(self.read()):
                self._broker.append(self._at.topic, (self._at.partition, key, value))

    def close(self) -> None:
        """Do nothing: there is no connection to close."""
