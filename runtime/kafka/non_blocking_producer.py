"""A producer for callers that must not block and need each message's offset, as the gateway does.

`clients.KafkaProducer` waits for room and acknowledges in batches; this one refuses a message when
its queue is full and reports every acknowledgement.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import confluent_kafka as ck

from runtime.kafka.access.connection import connection
from runtime.kafka.clients import KNOWN_S, idempotent
from runtime.kafka.partitioner import partition_of
from runtime.settings import Settings
from schemas.errors import BrokerUnavailable, DeliveryRejected

OnAcknowledged = Callable[[int, int], None]
"""Called with partition and offset, from within `send`, `poll` or `flush`."""
_Queued = tuple[bytes, bytes, OnAcknowledged]
MAX_UNACKNOWLEDGED: Final = 50_000
"""Messages that may be unacknowledged at a time; further ones are refused."""


class NonBlockingProducer(Protocol):
    """Sends to one topic, in order within a partition and without duplicates.

    Only `flush` blocks. Acknowledgements arrive by `poll`, so call it regularly.
    """

    def send(self, key: bytes, value: bytes, on_acknowledged: OnAcknowledged) -> None:
        """Queue one message. It is retried until Kafka accepts it, however long that takes.

        Raises:
            BrokerUnavailable: the queue is full; the message was not queued.
            DeliveryRejected: Kafka will never accept it, or has rejected an earlier one for good.
        """

    def poll(self) -> None:
        """Report the acknowledgements that have arrived since the last call."""

    def flush(self, timeout_s: float) -> int:
        """Wait until everything is acknowledged; return the number of messages that are not."""


class KafkaNonBlockingProducer:
    """The `NonBlockingProducer` of a real broker, for a topic keyed by card.

    The first message to a partition is sent alone, for the reason that `KafkaProducer` gives;
    others are held here until it is acknowledged.
    """

    def __init__(
        self, settings: Settings, topic: str, max_unacknowledged: int = MAX_UNACKNOWLEDGED
    ) -> None:
        self._topic, self._max_unacknowledged = topic, max_unacknowledged
        self._partitions = settings.partitions
        partition_of(b"", self._partitions)  # loads the compiled partitioner
        self._refused: str | None = None
        self._producer = ck.Producer(connection(settings) | idempotent(linger_ms=0))
        self._known: set[int] = set()
        self._behind_first: dict[int, list[_Queued]] = {}
        self._held = 0
        self._forgotten_at = time.monotonic() + KNOWN_S

    def send(self, key: bytes, value: bytes, on_acknowledged: OnAcknowledged) -> None:
        """Queue one message; see `NonBlockingProducer`."""
        if self._refused is not None:
            raise DeliveryRejected(f"Kafka rejected a message to {self._refused}")
        if len(self._producer) + self._held >= self._max_unacknowledged:
            raise BrokerUnavailable(
                f"{self._max_unacknowledged} messages are already waiting for Kafka"
            )
        if time.monotonic() > self._forgotten_at:
            self._known.clear()
            self._forgotten_at = time.monotonic() + KNOWN_S
        # By ourselves, since librdkafka would also choose partitions that were added and that
        # nobody serves yet.
        partition = partition_of(key, self._partitions)
        if partition in self._behind_first:
            self._behind_first[partition].append((key, value, on_acknowledged))
            self._held += 1
            return
        self._produce(partition, key, value, on_acknowledged)
        if partition not in self._known:
            self._behind_first[partition] = []
        self._producer.poll(0)

    def _produce(
        self, partition: int, key: bytes, value: bytes, on_acknowledged: OnAcknowledged
    ) -> None:
        def report(error: ck.KafkaError | None, message: Any) -> None:
            if error is None:
                on_acknowledged(message.partition(), message.offset())
                self._release(partition)
            elif self._refused is None:
                self._refused = f"{message.topic()}[{message.partition()}]: {error.str()}"

        try:
            self._producer.produce(
                self._topic, value=value, key=key, partition=partition, on_delivery=report
            )
        except BufferError as error:
            raise BrokerUnavailable("the queue is full: Kafka does not accept messages") from error
        except ck.KafkaException as error:
            reason = error.args[0].str()
            raise DeliveryRejected(f"cannot send to {self._topic}: {reason}") from error

    def _release(self, partition: int) -> None:
        """The partition knows us now: send what has waited behind the first message."""
        self._known.add(partition)
        for key, value, on_acknowledged in self._behind_first.pop(partition, ()):
            self._held -= 1
            self._produce(partition, key, value, on_acknowledged)

    def poll(self) -> None:
        """Report the acknowledgements that have arrived since the last call."""
        self._producer.poll(0)

    def flush(self, timeout_s: float) -> int:
        """Wait until everything is acknowledged; see `NonBlockingProducer`."""
        return int(self._producer.flush(timeout_s)) + self._held
