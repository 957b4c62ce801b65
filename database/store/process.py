"""The process `python -m database store`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from database.core.database import Database
from database.core.opening import open_database
from database.store.expiry import Retention
from database.store.rows import decision_rows, label_reader, vector_rows
from database.store.store import SERVICE, Store, StoreSources, report
from runtime.kafka.reader import KafkaReader, end_offsets, offset_bounds
from runtime.kafka.wire_format import ConfluentRegistry
from runtime.process import ServiceProcess
from runtime.settings import Settings
from schemas.topics import DECISIONS, FEATURES, LABELS, POLICY

NICENESS: Final = 10
"""Other processes of the machine, above all those that score, have priority."""
GATHER_MS: Final = 200
"""How long Kafka gathers records for a fetch: large transactions cost a third of small ones."""


def run(settings: Settings, *, once: bool = False) -> dict[str, Any]:
    """Follow the topics until SIGTERM or SIGINT; return a report. Call this from the main thread.

    Args:
        once: stop when everything that the topics hold now is stored.

    Raises:
        ConfigurationError: the database or the topics do not match the settings.
    """
    with ServiceProcess(SERVICE, settings, niceness=NICENESS) as process:
        process.create_topics()
        database = process.parts.enter_context(process.patiently(lambda: open_database(settings)))
        store = _store(process, database)
        vector_rows([])  # loads the compiled decoders
        decision_rows([])
        ends = process.patiently(lambda: _ends(settings)) if once else {}

        def finished() -> bool:
            read = store.read if ends else {}
            return bool(read) and all(
                read[topic].get(number, 0) >= end
                for topic, numbers in ends.items()
                for number, end in numbers.items()
            )

        process.started(lambda: store.waiting_for, database=database.name, once=once)
        began, cpu = time.monotonic(), time.process_time()
        store.run(finished, process.stop)
        done = report(store, time.monotonic() - began, time.process_time() - cpu)
    return {"database": database.name, **done}


def _store(process: ServiceProcess, database: Database) -> Store:
    settings = process.settings

    def open_reader(topic: str, starts: Mapping[int, int]) -> KafkaReader:
        return KafkaReader(settings, topic, starts, gather_ms=GATHER_MS)

    sources = StoreSources(
        decisions=settings.topic(DECISIONS),
        features=settings.topic(FEATURES),
        labels=settings.topic(LABELS),
        policy=settings.topic(POLICY),
        open_reader=open_reader,
        bounds=lambda topic: offset_bounds(settings, topic),
        read_label=label_reader(settings.pan_key, ConfluentRegistry.from_settings(settings)),
    )
    return Store(
        database,
        sources,
        keep=Retention.from_settings(settings),
        currencies=settings.currencies,
        clock=process.clock,
        metrics=process.metrics,
    )


def _ends(settings: Settings) -> dict[str, dict[int, int]]:
    topics = [settings.topic(spec) for spec in (FEATURES, DECISIONS, LABELS, POLICY)]
    return {topic: end_offsets(settings, topic) for topic in topics}
