"""The process `python -m database store`: puts its parts together and stops them in order."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Final

import structlog

from database.core.opening import open_database
from database.store.rows import decision_rows, label_reader, vector_rows
from database.store.store import SERVICE, Store, report
from runtime.clock import SystemClock
from runtime.health import HealthServer
from runtime.kafka.reader import KafkaReader, end_offsets, offset_bounds
from runtime.kafka.topic_admin import create_topics
from runtime.kafka.wire_format import ConfluentRegistry
from runtime.logs import configure_logging
from runtime.metrics import Metrics
from runtime.process import StopSignal, patiently
from runtime.settings import Settings
from schemas.currency import CurrencyTable
from schemas.topics import DECISIONS, FEATURES, LABELS, POLICY

log = structlog.get_logger(__name__)
NICE: Final = 10
"""Who shares the machine with it, above all the scoring path, comes first."""
GATHER_MS: Final = 200
"""How long Kafka gathers for it: few large transactions cost a third of many small ones."""


def run(settings: Settings, *, once: bool = False) -> dict[str, Any]:
    """Follow until SIGTERM or SIGINT or, if `once`, to the ends as they are now; return a report.

    Call it in the main thread.

    Raises:
        ConfigurationError: the database or the topics are not what the settings say.
    """
    configure_logging(settings, SERVICE)
    os.nice(NICE)
    stop, metrics = StopSignal(), Metrics(SERVICE)
    decisions, features = settings.topic(DECISIONS), settings.topic(FEATURES)
    labels, policy = settings.topic(LABELS), settings.topic(POLICY)
    key = settings.pan_hmac_key
    read = label_reader(
        key.get_secret_value().encode() if key else None, ConfluentRegistry.from_settings(settings)
    )

    def open_reader(topic: str, starts: Mapping[int, int]) -> KafkaReader:
        return KafkaReader(settings, topic, starts, gather_ms=GATHER_MS)

    opened: list[Store] = []

    def not_ready() -> str:
        return opened[0].waiting_for if opened else "Kafka or the database is not there yet"

    with ExitStack() as parts:
        if settings.health_port:
            parts.enter_context(
                HealthServer(settings.health_port, metrics, not_ready, host=settings.health_host)
            )
        patiently(lambda: create_topics(settings, timeout_s=3.0), stop)
        database = parts.enter_context(patiently(lambda: open_database(settings), stop))
        store = Store(
            database,
            decisions=decisions,
            features=features,
            labels=labels,
            policy=policy,
            open_reader=open_reader,
            bounds=lambda topic: offset_bounds(settings, topic),
            keep_ms=settings.store_keep.ms,
            currencies=CurrencyTable(settings.base_currency, settings.currency_rates),
            read_label=read,
            clock=SystemClock(),
            metrics=metrics,
        )
        vector_rows([])  # loads the compiled decoders
        decision_rows([])
        ends: dict[str, dict[int, int]] = {}
        if once:
            ends = patiently(
                lambda: {
                    topic: end_offsets(settings, topic)
                    for topic in (features, decisions, labels, policy)
                },
                stop,
            )

        def finished() -> bool:
            read = store.read if ends else {}
            return bool(read) and all(
                read[topic].get(number, 0) >= end
                for topic, numbers in ends.items()
                for number, end in numbers.items()
            )

        opened.append(store)
        log.info("started", database=database.name, once=once)
        began, cpu = time.monotonic(), time.process_time()
        store.run(finished, stop)
        done = report(store, time.monotonic() - began, time.process_time() - cpu)
    log.info("stopped")
    return {"database": database.name, **done}
