"""A producer for a caller that must not wait and wants to know what Kafka has: the gateway's.

`kafka.KafkaProducer` waits for room and reports in batches; this one refuses, and reports each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import confluent_kafka as ck

from runtime.kafka.clients import connection, idempotent
from runtime.settings import Settings
from schemas.errors import BrokerUnavailable, DeliveryRejected

OnAcknowledged = Callable[[int, int], None]
"""Told partition and offset, from within `send`, `serve` or `flush`."""
MAX_HELD: Final = 50_000
"""Messages without an acknowledgement above which none is taken."""


class PromptProducer(Protocol):
    """Sends to one topic, in order within a partition, none twice. Nothing but `flush` waits."""

    def send(self, key: bytes, value: bytes, on_acknowledged: OnAcknowledged) -> None:
        """Take one message. It is sent whenever Kafka is there again, however long that takes.

        Raises:
            BrokerUnavailable: too many wait already; this one was not taken.
            DeliveryRejected: Kafka will never take it, or refused an earlier one for good.
        """

    def serve(self) -> None:
        """Tell of what was acknowledged meanwhile."""

    def flush(self, timeout_s: float) -> int:
        """Wait until Kafka has everything; return how many messages it has not."""


class KafkaPromptProducer:
    """See `PromptProducer`."""

    def __init__(self, settings: Settings, topic: str, most_held: int = MAX_HELD) -> None:
        self._topic, self._most_held = topic, most_held
        self._refused: str | None = None
        self._producer = ck.Producer(connection(settings) | idempotent(linger_ms=0))

    def send(self, key: bytes, value: bytes, on_acknowledged: OnAcknowledged) -> None:
        """Take one message; see `PromptProducer`."""
        if self._refused is not None:
            raise DeliveryRejected(f"Kafka refused a message to {self._refused}")
        if len(self._producer) >= self._most_held:
            raise BrokerUnavailable(f"{self._most_held} messages wait for Kafka already")

        def report(error: ck.KafkaError | None, message: Any) -> None:
            if error is None:
                on_acknowledged(message.partition(), message.offset())
            elif self._refused is None:
                self._refused = f"{message.topic()}[{message.partition()}]: {error.str()}"

        try:
            self._producer.produce(self._topic, value=value, key=key, on_delivery=report)
        except BufferError as error:
            raise BrokerUnavailable("no room: Kafka takes no messages") from error
        except ck.KafkaException as error:
            reason = error.args[0].str()
            raise DeliveryRejected(f"cannot send to {self._topic}: {reason}") from error
        self._producer.poll(0)

    def serve(self) -> None:
        """Tell of what was acknowledged meanwhile."""
        self._producer.poll(0)

    def flush(self, timeout_s: float) -> int:
        """Wait until Kafka has everything; see `PromptProducer`."""
        return int(self._producer.flush(timeout_s))
