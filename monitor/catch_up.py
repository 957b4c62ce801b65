"""Reads the retained messages again after a start, up to the ends at that moment."""

from __future__ import annotations

import time
from collections.abc import Mapping

import structlog

from monitor.service import FOLLOWED, Monitor
from runtime.kafka.reader import KafkaReader, end_offsets, offsets_at, read_all
from runtime.process import ServiceProcess
from schemas.topics import ALERTS, MODELS, RETRAIN_REQUESTS

log = structlog.get_logger(__name__)


class CatchUp:
    """Opens the readers at `since_ms`; no alert is raised until they reach the ends as of then."""

    def __init__(self, process: ServiceProcess, monitor: Monitor, since_ms: int) -> None:
        self._process, self._monitor, self._since_ms = process, monitor, since_ms
        self._ends: dict[str, Mapping[int, int]] = {}
        self._began = time.monotonic()
        self.readers: dict[str, KafkaReader] = {}
        """By topic name without the prefix."""

    def open(self) -> None:
        """Open the readers, and restore the alerts and retrain requests of an earlier process.

        Raises:
            BrokerUnavailable: Kafka does not answer; call again.
        """
        settings = self._process.settings
        for spec in FOLLOWED:
            topic = settings.topic(spec)
            if spec.name not in self.readers:
                starts = None if spec is MODELS else offsets_at(settings, topic, self._since_ms)
                self._ends[spec.name] = end_offsets(settings, topic)
                self.readers[spec.name] = self._process.keep(KafkaReader(settings, topic, starts))
        self._monitor.restore(
            read_all(settings, settings.topic(ALERTS)),
            read_all(settings, settings.topic(RETRAIN_REQUESTS)),
        )
        self._monitor.receive(MODELS.name, self.readers[MODELS.name].read_to_end())
        self._monitor.live = False

    def done(self) -> bool:
        """Return whether the readers have reached the ends; from then on the monitor is live."""
        if not self._monitor.live and self._at_ends():
            self._monitor.live = True
            log.info("watching", seconds=round(time.monotonic() - self._began, 1))
        return self._monitor.live

    def _at_ends(self) -> bool:
        return all(
            reader.positions()[number] >= end
            for name, reader in self.readers.items()
            for number, end in self._ends[name].items()
        )
