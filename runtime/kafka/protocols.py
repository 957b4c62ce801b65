"""The protocols that services are written against when they send to or read from Kafka.

`clients`, `reader` and `exclusive_log` implement them on confluent-kafka, `memory` without a
broker; one test suite runs against both. Offsets are always those of the next message to read, and
topic names are full names, with the prefix of the installation.

>>> from runtime.kafka.memory import MemoryBroker, MemoryConsumer, MemoryProducer
>>> broker = MemoryBroker(partitions=1)
>>> MemoryProducer(broker).produce("orders", key=b"card", value=b"first")
>>> consumer = MemoryConsumer(broker, group="readers", topics=["orders"])
>>> [message] = consumer.poll_batch(timeout_s=0)
>>> message.offset, message.value
(0, b'first')
>>> consumer.commit({TopicPartition("orders", 0): message.offset + 1})
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

BY_KEY: Final = -1
"""Instead of a partition number: choose the partition by the key, as Kafka's Java client does."""


class TopicPartition(NamedTuple):
    """One partition of a topic, by the topic's full name."""

    topic: str
    partition: int


class Message(NamedTuple):
    """A message as it was read. Times are in ms since the epoch.

    `value` is None for a tombstone, which deletes its key from a compacted topic. `timestamp` is
    the broker's if the topic has LogAppendTime. Otherwise it is whatever the producer set, also
    nothing or tomorrow, and `read_at` is the time of reading.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    read_at: int | None = None

    @property
    def timestamp_type(self) -> int:
        """1 if `timestamp` is the broker's and 0 if not, as records of aiokafka say it."""
        return 1 if self.read_at is None else 0

    @property
    def arrived(self) -> int:
        """The latest time at which it can have arrived: event times are checked against it."""
        return self.timestamp if self.read_at is None else self.read_at


Outgoing = tuple[int, bytes | None, bytes | None]
"""(partition or BY_KEY, key, value)."""
OnAssign = Callable[[list[TopicPartition]], Mapping[TopicPartition, int] | None]
"""Called with newly assigned partitions, from within `poll_batch`. Returns the next offsets of the
partitions that should not start at the group's committed offsets; None changes nothing. An
exception passes through `poll_batch`; close the consumer then."""
OnRevoke = Callable[[list[TopicPartition]], None]
"""Called with revoked or lost partitions, from within `poll_batch` or `close`."""


class Producer(Protocol):
    """Sends messages, in order within a partition and without duplicates.

    `produce` and `produce_many` only queue: a message has arrived once `flush` has returned. The
    producer retries without end, so a broker that is away delays messages but loses none, as long
    as the process lives.
    """

    def produce_many(self, topic: str, records: Iterable[Outgoing]) -> None:
        """Queue messages. Blocks only while the send buffer is full.

        Messages of one partition keep their order.

        Raises:
            BrokerUnavailable: the buffer stayed full; some of the messages may have been queued.
            DeliveryRejected: the broker will never take one of these or of the earlier messages.
        """

    def produce(
        self, topic: str, key: bytes | None, value: bytes | None, partition: int = BY_KEY
    ) -> None:
        """Queue one message, as `produce_many` does."""

    def flush(self, timeout_s: float = 10.0) -> None:
        """Wait until all replicas have acknowledged every message queued so far.

        Raises:
            BrokerUnavailable: some are still outstanding. Nothing is lost: call again, and do not
                queue them a second time.
            DeliveryRejected: the broker refused a message for good.
        """

    def close(self) -> None:
        """Send what can be sent within a second, then close. Call `flush` first to lose nothing."""


class Consumer(Protocol):
    """Reads as a member of a consumer group, at least once. Use it from one thread.

    Call `poll_batch` regularly, at least every few minutes: a member that does not poll loses its
    partitions. Nothing is committed by itself. A message that was read and not committed comes
    again after a restart or a rebalance.
    """

    def poll_batch(self, max_records: int = 500, timeout_s: float = 1.0) -> list[Message]:
        """Return the messages that have arrived, at most `max_records`; the list may be empty.

        Waits up to `timeout_s` for the first message and not for any further one. The assignment
        callbacks run within this call.

        Raises:
            BrokerUnavailable: the broker answered with an error; call again.
            MembershipLost: this member was put out of its group; close it and open another.
        """

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Send the next offsets to read (last offset + 1) to the group, without waiting.

        The commit may fail without notice: what it covered is then read again.
        """

    def seek(self, at: TopicPartition, offset: int) -> None:
        """Continue at `offset`; the partition must be assigned."""

    def assignment(self) -> list[TopicPartition]:
        """Return the partitions currently assigned."""

    def lag(self) -> dict[TopicPartition, int]:
        """Return the unread messages of each partition, as far as known. Does not block."""

    def close(self) -> None:
        """Finish the pending commits and leave the group."""


class Reader(Protocol):
    """Reads all partitions of a topic from the beginning, then follows it, without a group.

    Every reader sees every message. Positions are kept nowhere: a new reader starts over.
    """

    def read_to_end(self, timeout_s: float = 30.0) -> list[Message]:
        """Return everything up to the end as it is at the call, partition by partition.

        There is no order between partitions. A later call returns only newer messages.

        Raises:
            BrokerUnavailable: the end was not reached in time. What was read so far is kept and
                returned by the next call.
        """

    def poll_batch(self, max_records: int = 500, timeout_s: float = 1.0) -> list[Message]:
        """Return the messages that have arrived since, as `Consumer.poll_batch` does."""

    def close(self) -> None:
        """Close the connection."""


class PartitionReader(Reader, Protocol):
    """A Reader that starts at given offsets and reports its positions.

    It is meant for readers that store positions beside their results, so that both change together.
    """

    def positions(self) -> dict[int, int]:
        """Return the next offset of each partition; gaps at the end of a log are passed over."""

    def partitions(self) -> list[int]:
        """Ask the broker for the topic's partitions. Blocks; may raise BrokerUnavailable."""

    def lag(self) -> dict[int, int]:
        """Return the unread messages of each partition, as far as known. Does not block."""


Entry = tuple[bytes, bytes]
"""(key, value)."""
Decide = Callable[[Sequence[Message]], Sequence[Entry]]
"""Given all messages of a log, returns the entries to add; an empty sequence adds none. It is
called again when another writer was faster or an answer of the broker was lost, so it must have
no side effects; in the second case its entries may already be in the log. If it raises, nothing
is added and `append` raises the same."""


class ExclusiveLog(Protocol):
    """A topic of one partition whose writers decide by its content, one writer at a time.

    No entry can come between the messages that `decide` sees and the entries that it adds, whoever
    writes. So an invariant that every `decide` keeps is an invariant of the log.

    >>> from runtime.kafka.memory import MemoryBroker, MemoryExclusiveLog
    >>> log = MemoryExclusiveLog(MemoryBroker(), "models")
    >>> def claim(messages):
    ...     return [] if messages else [(b"champion", b"model-1")]
    >>> log.append(claim)
    >>> log.append(claim)
    >>> [message.value for message in log.read()]
    [b'model-1']
    """

    def read(self) -> list[Message]:
        """Return all committed entries, in order. Blocks; may raise BrokerUnavailable."""

    def append(self, decide: Decide) -> None:
        """Add the entries that `decide` returns, all or none. Blocks until readers see them.

        Raises:
            BrokerUnavailable: Kafka does not answer, or other writers were faster every time. The
                last entries decided may have been added all the same: read before trying again.
            DeliveryRejected: Kafka will never take the entries.
        """

    def close(self) -> None:
        """Close the connection."""
