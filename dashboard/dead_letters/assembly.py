"""Puts the parts for dead letters together on Kafka, for the page and the commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dashboard.dead_letters.letters import DeadLetters
from dashboard.dead_letters.redrive import Redrive
from database.core.database import Database
from runtime.clock import Clock
from runtime.kafka.clients import KafkaProducer
from runtime.kafka.reader import KafkaReader, offset_bounds
from runtime.settings import Settings
from schemas.topics import DEAD_LETTER, LABELS, TRANSACTIONS

SOURCES = (TRANSACTIONS, LABELS)
"""Topics whose messages are sent again."""


def dead_letters(settings: Settings) -> DeadLetters:
    """Return the dead letters of the topic of the settings. Connects to nothing yet."""
    return DeadLetters(
        settings.topic(DEAD_LETTER),
        lambda topic, starts: KafkaReader(settings, topic, starts),
        lambda topic: offset_bounds(settings, topic),
    )


def redrive(settings: Settings, database: Database, clock: Clock) -> Redrive:
    """Return what sends their messages again. Connects to nothing yet."""

    @contextmanager
    def lend() -> Iterator[KafkaProducer]:
        producer = KafkaProducer(settings)
        try:
            yield producer
        finally:
            producer.close()

    sources = [settings.topic(spec) for spec in SOURCES]
    return Redrive(dead_letters(settings), sources, lend, database=database, clock=clock)
