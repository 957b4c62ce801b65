"""Messages to and from Kafka: the records and Protocols that services are written against.

`kafka` has them on confluent-kafka, `memory_streams` in memory; one test-suite runs against both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

BY_KEY: Final = -1
"""As a partition number: choose by the key, as Kafka's own clients do (murmur2)."""


class TopicPartition(NamedTuple):
    """One partition of a topic; its full name."""

    topic: str
    partition: int


class Message(NamedTuple):
    """A message as it was read; `timestamp` is the broker's, in ms."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


Outgoing = tuple[int, bytes | None, bytes | None]
"""Partition or BY_KEY, key, value."""
OnAssign = Callable[[list[TopicPartition]], Mapping[TopicPartition, int] | None]
"""Told of new partitions; returns where to read on (next offsets), for those that it knows better
than the group's committed offsets. If it raises, `poll_batch` raises, and the consumer is to be
closed."""
OnRevoke = Callable[[list[TopicPartition]], None]


class Producer(Protocol):
    """Sends messages, in order within a partition, none twice."""

    def produce_many(self, topic: str, records: Iterable[Outgoing]) -> None:
        """Hand messages over without waiting for the broker, except for room in the buffer.

        Messages of one partition keep their order.

        Raises:
            BrokerUnavailable: no room came; some may have been taken.
            DeliveryRejected: the broker will never take one of them.
        """

    def produce(
        self, topic: str, key: bytes | None, value: bytes | None, partition: int = BY_KEY
    ) -> None:
        """Hand one message over, as `produce_many`."""

    def flush(self, timeout_s: float = 10.0) -> None:
        """Wait until the broker has everything.

        Raises:
            BrokerUnavailable: not yet; nothing is lost, call again.
            DeliveryRejected: the broker refused a message for good.
        """

    def close(self) -> None:
        """Flush what can be flushed at once and let go."""


class Consumer(Protocol):
    """Reads as a member of a consumer group. Used from one thread; call `poll_batch` regularly."""

    def poll_batch(self, max_records: int = 500, timeout_s: float = 1.0) -> list[Message]:
        """Return what is there, at most `max_records`; wait only while there is nothing.

        Assignment and revocation are told from within this call.

        Raises:
            BrokerUnavailable: the broker answers with an error; call again.
            MembershipLost: this member is out of its group; close it and join anew.
        """

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Tell the group the next offsets to read, without waiting for the answer."""

    def seek(self, at: TopicPartition, offset: int) -> None:
        """Read on from `offset`; the partition must be assigned."""

    def assignment(self) -> list[TopicPartition]:
        """Return the partitions that are read now."""

    def lag(self) -> dict[TopicPartition, int]:
        """Return the messages not yet read by partition, as far as known; does not block."""

    def close(self) -> None:
        """Leave, after the commits under way."""


class Reader(Protocol):
    """Reads all partitions of a topic from the beginning, without a group, and can then follow."""

    def read_to_end(self, timeout_s: float = 30.0) -> list[Message]:
        """Return everything up to the end as it was at the call, in order by partition.

        Raises:
            BrokerUnavailable: the end was not reached in time. Nothing is lost, call again.
        """

    def poll_batch(self, max_records: int = 500, timeout_s: float = 1.0) -> list[Message]:
        """Return what has come since, as `Consumer.poll_batch`."""

    def close(self) -> None:
        """Let go."""


class PartitionReader(Reader, Protocol):
    """A Reader from given offsets, which tells how far it is: for those who keep positions."""

    def positions(self) -> dict[int, int]:
        """Return the next offset of each partition that is read."""

    def partitions(self) -> list[int]:
        """Ask the broker which partitions the topic has. Blocks; raises BrokerUnavailable."""

    def lag(self) -> dict[int, int]:
        """Return the messages not yet read by partition, as far as known; does not block."""


Entry = tuple[bytes, bytes]
"""Key, value."""
Decide = Callable[[Sequence[Message]], Sequence[Entry]]
"""Told everything that stands on a log; returns what to add, nothing to leave it. It may be called
again, when another writer got ahead or an answer of the broker was lost; what it raises is raised,
and nothing was added then."""


class ExclusiveLog(Protocol):
    """A topic of one partition to which writers add by what stands there. One writer at a time:
    between what `decide` is told and what it adds nothing else is added."""

    def read(self) -> list[Message]:
        """Return everything that was added for good, in order. Blocks; raises BrokerUnavailable."""

    def append(self, decide: Decide) -> None:
        """Add what `decide` returns, all or nothing. Blocks until it is there.

        Raises:
            BrokerUnavailable: Kafka does not answer, or other writers were quicker every time.
                What was decided last may yet have been added.
            DeliveryRejected: Kafka will never take it.
        """

    def close(self) -> None:
        """Let go."""
