"""Follows all partitions of some topics from their ends onwards, without a consumer group.

Tuned for latency: the broker answers a fetch as soon as it has one record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import confluent_kafka as ck

from runtime.kafka.access.connection import connection
from runtime.kafka.clients import READER_CONFIG, poll_batch
from runtime.kafka.protocols import Message
from runtime.kafka.reader import end_offsets
from runtime.settings import Settings

FETCH_WAIT_MS: Final = 100


class KafkaTail:
    """See `protocols.Reader.poll_batch`. Opening blocks and may raise BrokerUnavailable.

    Args:
        before: start this many messages of each topic, shared among its partitions, before the
            end.
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
                **READER_CONFIG,
            }
        )
        self._consumer.assign(starts)

    def poll_batch(self, max_records: int = 500, timeout_s: float = 1.0) -> list[Message]:
        """Return the messages that have arrived, waiting only for the first."""
        return poll_batch(self._consumer, max_records, timeout_s)

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()
