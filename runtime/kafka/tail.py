"""What comes on some topics from now on, of all partitions, without a group: the gateway reads it.

Made for waiting: the broker answers a fetch as soon as there is one record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import confluent_kafka as ck

from runtime.kafka.clients import READING, connection, poll_batch
from runtime.kafka.protocols import Message
from runtime.kafka.reader import end_offsets
from runtime.settings import Settings

FETCH_WAIT_MS: Final = 100


class KafkaTail:
    """See `streams.Reader.poll_batch`. Opening blocks, and raises BrokerUnavailable.

    Args:
        before: so many of the newest messages of each topic, spread over its partitions, come
            first.
    """

    def __init__(self, settings: Settings, topics: Sequence[str], before: int = 0) -> None:
        starts = []
        for topic in topics:
            ends = end_offsets(settings, topic)
            share = before // max(len(ends), 1)
            starts += [
                ck.TopicPartition(topic, number, max(end - share, 0))
                for number, end in ends.items()
            ]
        self._consumer = ck.Consumer(
            connection(settings)
            | {
                "group.id": "unused",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": FETCH_WAIT_MS,
                "fetch.min.bytes": 1,
                "queued.min.messages": 20_000,
                **READING,
            }
        )
        self._consumer.assign(starts)

    def poll_batch(self, max_records: int = 500, timeout_s: float = 1.0) -> list[Message]:
        """Return what is there; wait only while there is nothing."""
        return poll_batch(self._consumer, max_records, timeout_s)

    def close(self) -> None:
        """Let go."""
        self._consumer.close()
