"""The producer and the group consumer, on confluent-kafka.

The input of the stream processor is the one exception: there Faust reads through aiokafka.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import confluent_kafka as ck
import structlog

from runtime.kafka import errors
from runtime.kafka.access.connection import connection
from runtime.kafka.adaptive_linger import AdaptiveLinger
from runtime.kafka.partitioner import partitions_of
from runtime.kafka.protocols import (
    BY_KEY,
    Message,
    OnAssign,
    OnRevoke,
    Outgoing,
    TopicPartition,
)
from runtime.settings import Settings
from schemas.errors import BrokerUnavailable, DeliveryRejected, MembershipLost
from schemas.topics import MAX_MESSAGE_BYTES

log = structlog.get_logger(__name__)
BUFFER_WAIT_S: Final = 30.0
"""How long `produce` waits for room in the local buffer, or for a first acknowledgement."""
KNOWN_S: Final = 12 * 3600.0
"""A broker forgets an idle producer after a day; ours takes partitions for unknown after this."""
ANSWER_S: Final = 10.0
FEW_MESSAGES: Final = 8
GATHER_S: Final = 0.001
"""In dense traffic, a batch of fewer than FEW_MESSAGES waits this long for more."""
READER_CONFIG: Final = {"isolation.level": "read_committed", "fetch.queue.backoff.ms": 10}
"""Settings of every reader. Messages of aborted or open transactions are not delivered. A partition
with a full prefetch queue is polled again after 10 ms; with librdkafka's default of one second the
archiver took 100 s instead of 32 s for 3.5 million messages."""
TRANSIENT_ERRORS: Final = frozenset(
    {
        ck.KafkaError._ALL_BROKERS_DOWN,
        ck.KafkaError._TRANSPORT,
        ck.KafkaError._RESOLVE,
        ck.KafkaError._TIMED_OUT,
        ck.KafkaError._MAX_POLL_EXCEEDED,
    }
)
"""Errors that librdkafka recovers from by itself."""
NOT_YET: Final = frozenset(
    {ck.KafkaError.UNKNOWN_TOPIC_OR_PART, ck.KafkaError.LEADER_NOT_AVAILABLE}
)
"""What a broker says of a topic that was made a moment ago."""


def idempotent(*, linger_ms: float) -> dict[str, Any]:
    """Return the settings of an idempotent producer that retries for as long as it takes."""
    return {
        "partitioner": "murmur2_random",
        "enable.idempotence": True,
        "acks": "all",
        "linger.ms": linger_ms,
        "message.timeout.ms": 0,
        "queue.buffering.max.messages": 1_000_000,
        "queue.buffering.max.kbytes": 1_048_576,
        "message.max.bytes": MAX_MESSAGE_BYTES,
    }


class KafkaProducer:
    """See `protocols.Producer`: idempotent, acknowledged by all replicas, without a time-out.

    The first message to a partition is sent alone: the next one waits for its acknowledgement. A
    broker that knows nothing of a producer accepts whichever of its messages reaches it first. So
    if it becomes the leader between two requests, it refuses the first and accepts the second, and
    librdkafka (2.16) takes the first for acknowledged as well: it would be lost without a word.
    """

    def __init__(self, settings: Settings, *, linger_ms: float = 0) -> None:
        self._refused: str | None = None
        self._producer = ck.Producer(
            connection(settings)
            | idempotent(linger_ms=linger_ms)
            | {"delivery.report.only.error": True, "on_delivery": self._on_delivery}
        )
        self._partitions: dict[str, int] = {}
        self._first: set[tuple[str, int]] = set()
        self._known: set[tuple[str, int]] = set()
        self._forgotten_at = time.monotonic() + KNOWN_S

    def produce_many(self, topic: str, records: Iterable[Outgoing]) -> None:
        """Queue messages without waiting for the broker; see `protocols.Producer`."""
        deadline = self._deadline()
        # produce_batch of confluent-kafka 2.16 ignores a partition given with a message.
        batches: dict[int, list[dict[str, Any]]] = {}
        for partition, key, value in self._placed(topic, list(records), deadline):
            batches.setdefault(partition, []).append({"key": key, "value": value})
        if any((topic, partition) not in self._known for partition in batches):
            self._send_first(topic, batches, deadline)
        for partition, batch in batches.items():
            self._produce_batch(topic, partition, batch, deadline)
        self._producer.poll(0)
        self._raise_refused()

    def produce(
        self, topic: str, key: bytes | None, value: bytes | None, partition: int = BY_KEY
    ) -> None:
        """Queue one message; see `protocols.Producer`."""
        self.produce_many(topic, [(partition, key, value)])

    def flush(self, timeout_s: float = 10.0) -> None:
        """Wait until the broker has everything; see `protocols.Producer`."""
        waiting = self._producer.flush(timeout_s)
        self._raise_refused()
        if waiting:
            raise BrokerUnavailable(
                f"Kafka has not acknowledged {waiting} messages within {timeout_s} s: call again"
            )
        self._known |= self._first
        self._first.clear()

    def close(self) -> None:
        """Give queued messages one second to go out, then close."""
        self._producer.flush(1.0)

    def _deadline(self) -> float:
        now = time.monotonic()
        if now > self._forgotten_at:
            self._known.clear()
            self._partitions.clear()
            self._forgotten_at = now + KNOWN_S
        return now + BUFFER_WAIT_S

    def _placed(self, topic: str, records: list[Outgoing], deadline: float) -> Iterable[Outgoing]:
        """Replace BY_KEY by the partition of the key, any if there is none, as librdkafka does."""
        keys = [key for at, key, _ in records if at == BY_KEY and key is not None]
        if not keys and all(at != BY_KEY for at, _, _ in records):
            return records
        count = self._partitions.get(topic)
        if count is None:
            count = self._partitions[topic] = self._count(topic, deadline)
        led = iter(partitions_of(keys, count).tolist())
        return [
            (at, key, value)
            if at != BY_KEY
            else (random.randrange(count) if key is None else next(led), key, value)
            for at, key, value in records
        ]

    def _count(self, topic: str, deadline: float) -> int:
        """Ask for the number of partitions; a topic just made is waited for."""
        while True:
            try:
                found = self._producer.list_topics(topic, timeout=deadline - time.monotonic())
            except ck.KafkaException as error:
                raise BrokerUnavailable(f"cannot send to {topic}: {error.args[0].str()}") from error
            described = found.topics[topic]
            if described.error is None:
                return len(described.partitions)
            if described.error.code() not in NOT_YET or time.monotonic() > deadline:
                raise DeliveryRejected(f"cannot send to {topic}: {described.error.str()}")
            time.sleep(0.05)

    def _send_first(
        self, topic: str, batches: Mapping[int, list[dict[str, Any]]], deadline: float
    ) -> None:
        """Take from each batch what must go alone, and leave what may be sent behind it."""
        if any((topic, partition) in self._first for partition in batches):
            self.flush(deadline - time.monotonic())
        for partition, batch in batches.items():
            if (topic, partition) not in self._known:
                self._produce_batch(topic, partition, batch[:1], deadline)
                del batch[0]
                self._first.add((topic, partition))
        if any(batch for partition, batch in batches.items() if (topic, partition) in self._first):
            self.flush(deadline - time.monotonic())

    def _produce_batch(
        self, topic: str, partition: int, batch: list[dict[str, Any]], deadline: float
    ) -> None:
        while batch:
            self._producer.produce_batch(topic, batch, partition=partition)
            failed = [message for message in batch if "_error" in message]
            for message in failed:
                error = message.pop("_error")
                if error.code() != ck.KafkaError._QUEUE_FULL:
                    raise DeliveryRejected(f"cannot send to {topic}: {error.str()}")
            if failed:
                self._make_room(topic, deadline)
            batch = failed

    def _make_room(self, topic: str, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise BrokerUnavailable(f"cannot send to {topic}: the send buffer stays full")
        self._producer.poll(0.05)

    def _on_delivery(self, error: ck.KafkaError | None, message: ck.Message) -> None:
        if error is not None and self._refused is None:
            self._refused = f"{message.topic()}[{message.partition()}]: {error.str()}"

    def _raise_refused(self) -> None:
        if self._refused is not None:
            raise DeliveryRejected(f"Kafka refused a message to {self._refused}")


class KafkaConsumer:
    """See `protocols.Consumer`: a group member that commits its offsets explicitly.

    With an `instance_id` (static membership) a restart within the session time-out neither moves
    partitions nor waits; 6 s is the shortest session that brokers allow by default.
    """

    def __init__(
        self,
        settings: Settings,
        group: str,
        topics: Sequence[str],
        *,
        on_assign: OnAssign | None = None,
        on_revoke: OnRevoke | None = None,
        instance_id: str | None = None,
        from_beginning: bool = True,
    ) -> None:
        config = connection(settings) | {
            "group.id": group,
            "auto.offset.reset": "earliest" if from_beginning else "latest",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            **READER_CONFIG,
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 1500,
            "fetch.wait.max.ms": 100,
            "fetch.min.bytes": 1,
            "queued.min.messages": 20_000,
            "partition.assignment.strategy": "cooperative-sticky",
        }
        if instance_id:
            config["group.instance.id"] = instance_id
        self._consumer = ck.Consumer(config)
        self._linger, self._dense = AdaptiveLinger(), False
        self._on_assign, self._on_revoke = on_assign, on_revoke
        self._consumer.subscribe(
            list(topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )

    def poll_batch(self, max_records: int = 500, timeout_s: float = 1.0) -> list[Message]:
        """Return the messages that have arrived; see `protocols.Consumer`.

        In dense traffic, a small batch waits a millisecond for more.
        """
        gather_s = GATHER_S if self._dense else 0.0
        messages = poll_batch(
            self._consumer, max_records, timeout_s, gather_s=gather_s, member=True
        )
        self._dense = self._linger.dense(len(messages), time.monotonic())
        return messages

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Send the next offsets to read to the group, without waiting for the answer."""
        if not offsets:
            return
        try:
            self._consumer.commit(offsets=_positions(offsets), asynchronous=True)
        except ck.KafkaException as error:
            _raise_if_lasting(error.args[0])

    def committed(self, at: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the group's next offsets; partitions without one are left out. Blocks."""
        wanted = [ck.TopicPartition(*place) for place in at]
        try:
            found = self._consumer.committed(wanted, timeout=10)
        except ck.KafkaException as error:
            raise BrokerUnavailable(
                f"cannot read committed offsets: {error.args[0].str()}"
            ) from error
        return {TopicPartition(p.topic, p.partition): p.offset for p in found if p.offset >= 0}

    def seek(self, at: TopicPartition, offset: int) -> None:
        """Continue at `offset`; the partition must be assigned."""
        self._consumer.seek(ck.TopicPartition(at.topic, at.partition, offset))

    def assignment(self) -> list[TopicPartition]:
        """Return the partitions currently assigned."""
        return [TopicPartition(p.topic, p.partition) for p in self._consumer.assignment()]

    def lag(self) -> dict[TopicPartition, int]:
        """Return the unread messages of each partition, as far as known. Does not block."""
        lag: dict[TopicPartition, int] = {}
        for place in self._consumer.position(self._consumer.assignment()):
            ends = self._consumer.get_watermark_offsets(place, cached=True)
            if ends is not None and place.offset >= 0 and ends[1] >= 0:
                lag[TopicPartition(place.topic, place.partition)] = ends[1] - place.offset
        return lag

    def close(self) -> None:
        """Leave the group; a static member keeps its partitions until its session expires."""
        self._consumer.close()

    def _assigned(self, consumer: ck.Consumer, partitions: list[ck.TopicPartition]) -> None:
        if self._on_assign is None:
            return
        starts = self._on_assign([TopicPartition(p.topic, p.partition) for p in partitions]) or {}
        for place in partitions:
            place.offset = starts.get(TopicPartition(place.topic, place.partition), place.offset)
        _look_for_expired(consumer, partitions)
        consumer.incremental_assign(partitions)

    def _revoked(self, _: ck.Consumer, partitions: list[ck.TopicPartition]) -> None:
        if self._on_revoke:
            self._on_revoke([TopicPartition(p.topic, p.partition) for p in partitions])


def _look_for_expired(consumer: ck.Consumer, partitions: list[ck.TopicPartition]) -> None:
    """Tell of partitions whose next record is gone: librdkafka would begin at the first in silence.

    What cannot be asked is not told: the broker's errors are reported when records are read.
    """
    try:
        stored = [place for place in partitions if place.offset < 0]
        committed = consumer.committed(stored, timeout=ANSWER_S) if stored else []
        for place in (*partitions, *committed):
            if place.offset >= 0:
                first, _ = consumer.get_watermark_offsets(place, timeout=ANSWER_S)
                errors.look_for_expired(place.topic, place.partition, place.offset, first)
    except ck.KafkaException as error:
        log.warning("first offsets not looked at", reason=error.args[0].str())


def poll_batch(
    consumer: ck.Consumer,
    max_records: int,
    timeout_s: float,
    on_end: Callable[[int, int], None] = lambda partition, following: None,
    gather_s: float = 0.0,
    member: bool = False,
) -> list[Message]:
    """Return the messages that a confluent-kafka consumer has, waiting only for the first.

    `on_end` is called with the partition and the next offset when the end of a partition is
    reached; that offset lies beyond the last message if the log ends with gaps. A batch of fewer
    than FEW_MESSAGES waits `gather_s` for more. Who is no `member` of a group needs no right on
    one, although librdkafka asks for its coordinator all the same.
    """
    first = consumer.poll(timeout_s)
    if first is None:
        return []
    batch: list[Any] = [first]
    if max_records > 1:
        batch += consumer.consume(max_records - 1, timeout=0)
    if gather_s and len(batch) < min(FEW_MESSAGES, max_records):
        time.sleep(gather_s)
        batch += consumer.consume(max_records - len(batch), timeout=0)
    now_ms = time.time_ns() // 1_000_000
    messages: list[Message] = []
    errors: list[ck.KafkaError] = []
    for message in batch:
        error = message.error()
        if error is None:
            messages.append(_message(message, now_ms))
        elif error.code() == ck.KafkaError._PARTITION_EOF:
            on_end(message.partition(), message.offset())
        elif member or error.code() != ck.KafkaError.GROUP_AUTHORIZATION_FAILED:
            errors.append(error)
    for error in errors:
        if not messages or error.fatal():
            _raise_if_lasting(error)
        else:  # the messages beside it have left the queue and must not be lost
            log.warning("kafka", reason=error.str())
    return messages


def _raise_if_lasting(error: ck.KafkaError) -> None:
    """Log an error that librdkafka recovers from by itself; raise any other."""
    if error.code() in TRANSIENT_ERRORS or error.retriable():
        log.warning("kafka", reason=error.str())
        return
    if error.fatal() or error.code() == ck.KafkaError._FATAL:
        raise MembershipLost(f"Kafka: {error.str()}")
    raise BrokerUnavailable(f"Kafka: {error.str()}")


def _message(message: Any, now_ms: int) -> Message:
    kind, timestamp = message.timestamp()
    return Message(
        message.topic(),
        message.partition(),
        message.offset(),
        timestamp,
        message.key(),
        message.value(),
        None if kind == ck.TIMESTAMP_LOG_APPEND_TIME else now_ms,
    )


def _positions(offsets: Mapping[TopicPartition, int]) -> list[ck.TopicPartition]:
    return [ck.TopicPartition(at.topic, at.partition, offset) for at, offset in offsets.items()]
