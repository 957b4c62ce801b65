"""Reads topics without a consumer group, and looks up their offsets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

import confluent_kafka as ck

from runtime.kafka.access.connection import connection
from runtime.kafka.clients import READER_CONFIG, TRANSIENT_ERRORS, poll_batch
from runtime.kafka.protocols import Message, TopicPartition
from runtime.retries import Retry
from runtime.settings import Settings
from schemas.errors import BrokerUnavailable

_NOT_READY: Final = TRANSIENT_ERRORS | {
    ck.KafkaError.NOT_LEADER_FOR_PARTITION,
    ck.KafkaError.LEADER_NOT_AVAILABLE,
    ck.KafkaError.UNKNOWN_TOPIC_OR_PART,
    ck.KafkaError._UNKNOWN_PARTITION,
}
"""Errors of a new topic or a broker just started, none of them retriable to librdkafka."""
ASK_AGAIN: Final = Retry(
    errors=ck.KafkaException,
    only_if=lambda error: error.args[0].code() in _NOT_READY,
    max_time_s=10.0,
)
Answer = TypeVar("Answer")


class KafkaReader:
    """See `protocols.PartitionReader`. Opening blocks and may raise BrokerUnavailable.

    Args:
        starts: first offset by partition; partitions left out are not read. None reads the whole
            topic from its beginning.
        gather_ms: how long the broker may wait to fill an answer of a megabyte; one large answer
            costs both sides less than many small ones. 0 answers at the first record.
    """

    def __init__(
        self,
        settings: Settings,
        topic: str,
        starts: Mapping[int, int] | None = None,
        *,
        gather_ms: int = 0,
    ) -> None:
        self._topic = topic
        self._consumer = ck.Consumer(
            connection(settings)
            | {
                "group.id": "unused",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": gather_ms or 100,
                "fetch.min.bytes": 1_000_000 if gather_ms else 1,
                **READER_CONFIG,
            }
        )
        if starts is None:
            starts = {
                number: _ends(self._consumer, topic, number)[0]
                for number in _partitions(self._consumer, topic)
            }
        self._next = dict(sorted(starts.items()))
        self._read: list[Message] = []  # read by a read_to_end that timed out, not yet returned
        self._consumer.assign(
            [ck.TopicPartition(topic, number, offset) for number, offset in self._next.items()]
        )

    def read_to_end(self, timeout_s: float = 30.0) -> list[Message]:
        """Return everything up to the end; see `protocols.Reader`."""
        deadline = time.monotonic() + timeout_s
        ends = {number: _ends(self._consumer, self._topic, number)[1] for number in self._next}
        while any(self._next[number] < end for number, end in ends.items()):
            if time.monotonic() > deadline:
                raise BrokerUnavailable(
                    f"the end of {self._topic} was not reached within {timeout_s} s: call again"
                )
            self._read += self._polled(10_000, 0.1)
        found, self._read = self._read, []
        return sorted(found, key=lambda message: message.partition)  # stable: in order within each

    def poll_batch(self, max_records: int = 500, timeout_s: float = 1.0) -> list[Message]:
        """Return the messages that have arrived since, waiting only for the first."""
        if self._read:
            found, self._read = self._read[:max_records], self._read[max_records:]
            return found
        return self._polled(max_records, timeout_s)

    def positions(self) -> dict[int, int]:
        """Return the next offset of each partition that is read."""
        return dict(self._next)

    def partitions(self) -> list[int]:
        """Ask the broker for the topic's partitions. Blocks; may raise BrokerUnavailable."""
        return _partitions(self._consumer, self._topic)

    def lag(self) -> dict[int, int]:
        """Return the unread messages of each partition, as far as known. Does not block."""
        found = {}
        for number, following in self._next.items():
            place = ck.TopicPartition(self._topic, number)
            ends = self._consumer.get_watermark_offsets(place, cached=True)
            if ends is not None and ends[1] >= 0:
                found[number] = max(ends[1] - following, 0)
        return found

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def _polled(self, max_records: int, timeout_s: float) -> list[Message]:
        messages = poll_batch(self._consumer, max_records, timeout_s, self._reached)
        for message in messages:
            self._reached(message.partition, message.offset + 1)
        return messages

    def _reached(self, partition: int, following: int) -> None:
        self._next[partition] = max(self._next[partition], following)


def read_all(settings: Settings, topic: str) -> list[Message]:
    """Return a whole topic, partition by partition; meant for small topics."""
    reader = KafkaReader(settings, topic)
    try:
        return reader.read_to_end()
    finally:
        reader.close()


def read_tail(settings: Settings, topic: str, partition: int, count: int) -> list[Message]:
    """Return the messages in the last `count` offsets of a partition; gaps make them fewer."""
    end = end_offsets(settings, topic).get(partition)
    if end is None:  # partitions were added to the other topics, but not to this one
        return []
    reader = KafkaReader(settings, topic, {partition: max(end - count, 0)})
    try:
        return reader.read_to_end()[-count:] if count > 0 else []
    finally:
        reader.close()


def end_offsets(settings: Settings, topic: str) -> dict[int, int]:
    """Return the end of every partition. Blocks; may raise BrokerUnavailable."""
    return {number: end for number, (_, end) in offset_bounds(settings, topic).items()}


def offset_bounds(settings: Settings, topic: str) -> dict[int, tuple[int, int]]:
    """Return the first offset and the end of every partition. May raise BrokerUnavailable."""
    consumer = ck.Consumer(connection(settings) | {"group.id": "unused", **READER_CONFIG})
    try:
        return {number: _ends(consumer, topic, number) for number in _partitions(consumer, topic)}
    finally:
        consumer.close()


def offsets_at(settings: Settings, topic: str, since_ms: int) -> dict[int, int]:
    """Return for every partition the offset of its first message from `since_ms` on.

    A partition without such a message is given its end. Blocks; may raise BrokerUnavailable.
    """
    consumer = ck.Consumer(connection(settings) | {"group.id": "unused"})
    try:
        numbers = _partitions(consumer, topic)
        wanted = [ck.TopicPartition(topic, number, max(since_ms, 0)) for number in numbers]
        found = _answered(
            lambda: consumer.offsets_for_times(wanted, timeout=10),
            f"cannot read offsets of {topic}",
        )
        return {
            place.partition: place.offset
            if place.offset >= 0
            else _ends(consumer, topic, place.partition)[1]
            for place in found
        }
    finally:
        consumer.close()


def _partitions(consumer: ck.Consumer, topic: str) -> list[int]:
    def ask() -> list[int]:
        found = consumer.list_topics(topic, timeout=10).topics[topic]
        if found.error is not None:
            raise ck.KafkaException(found.error)
        return sorted(found.partitions)

    return _answered(ask, f"cannot read metadata of {topic}")


def _ends(consumer: ck.Consumer, topic: str, number: int) -> tuple[int, int]:
    def ask() -> tuple[int, int]:
        low, high = consumer.get_watermark_offsets(ck.TopicPartition(topic, number), timeout=10)
        return low, high

    return _answered(ask, f"cannot read offsets of {topic}")


def _answered(ask: Callable[[], Answer], what: str) -> Answer:
    """Repeat the question while the broker is not ready yet, as with a topic just created."""
    try:
        return ASK_AGAIN(ask)
    except ck.KafkaException as error:
        raise BrokerUnavailable(f"{what}: {error.args[0].str()}") from error


def committed_offsets(
    settings: Settings, group: str, at: Iterable[TopicPartition]
) -> dict[TopicPartition, int]:
    """Return a group's next offsets without joining it; partitions without one are left out.

    Blocks; may raise BrokerUnavailable.
    """
    wanted = [ck.TopicPartition(*place) for place in at]
    consumer = ck.Consumer(connection(settings) | {"group.id": group})
    try:
        found = _answered(
            lambda: consumer.committed(wanted, timeout=10), f"cannot read offsets of {group}"
        )
    finally:
        consumer.close()
    return {TopicPartition(p.topic, p.partition): p.offset for p in found if p.offset >= 0}
