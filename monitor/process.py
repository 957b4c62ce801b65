"""The process `python -m monitor run`: reads again what is kept, then follows, evaluates, tells.

It reads without a consumer group, each process everything: quality and drift need all partitions. A
second process would write every alert twice.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from monitor.judge.alerts import SERVICE
from monitor.judge.rollback import Registry
from monitor.notify import Notifier
from monitor.observe.observations import Observations
from monitor.observe.served_models import Models
from monitor.service import FOLLOWED, Monitor, Options
from runtime.clock import Clock, SystemClock
from runtime.health import HealthServer
from runtime.kafka.clients import KafkaProducer
from runtime.kafka.model_registry import open_registry
from runtime.kafka.protocols import Producer, Reader
from runtime.kafka.reader import KafkaReader, end_offsets, offsets_at, read_all
from runtime.kafka.topic_admin import create_topics
from runtime.kafka.wire_format import ConfluentRegistry
from runtime.logs import configure_logging
from runtime.metrics import Metrics
from runtime.process import StopSignal, patiently
from runtime.settings import Settings
from schemas.currency import CurrencyTable
from schemas.errors import BrokerUnavailable, ConfigurationError, FatalError
from schemas.features import DAY, HOUR
from schemas.topics import ALERTS, MODELS, RETRAIN_REQUESTS, TRANSACTIONS

log = structlog.get_logger(__name__)
MAX_ROWS: Final = 5_000
POLL_S: Final = 0.1
DUE_S: Final = 0.2
"""How often what is due is looked for when event time may run far faster than the clock."""
FAILED: Final = 1
REPORT_HOUR: Final = 0


class EventClock:
    """The time of the newest decision that the monitor has seen."""

    seen: Observations | None = None

    def now_ms(self) -> int:
        """Return ms since the epoch, UTC; 0 before the first decision."""
        return 0 if self.seen is None else self.seen.newest_event_ms

    def now_us(self) -> int:
        """Return it in microseconds."""
        return self.now_ms() * 1_000


class Loop:
    """Reads the topics in step, gives them to the monitor and sends what it leaves.

    Args:
        readers: by plain topic name.
        told: gets each alert, for people.
        ends: returns the ends of `transactions`; asked once an evaluation.
        full_name: name on the broker.
    """

    def __init__(
        self,
        monitor: Monitor,
        readers: Mapping[str, Reader],
        producer: Producer,
        *,
        notifier: Notifier | None = None,
        ends: Callable[[], Mapping[int, int]] | None = None,
        settings: Settings,
    ) -> None:
        self._monitor, self._readers, self._producer = monitor, readers, producer
        self._notifier, self._ends, self._settings = notifier, ends, settings
        self._newest = dict.fromkeys(readers, 0)
        self._ends_known: Mapping[int, int] | None = None
        self._due_every_s = DUE_S if settings.monitor_clock == "event" else 0.0
        self._due_at = 0.0

    def step(self, timeout_s: float = POLL_S) -> int:
        """Take what is there of the topic that is furthest behind in time; send what is due.

        Returns how many messages came.

        Raises:
            BrokerUnavailable: Kafka does not answer; nothing is lost, call again.
        """
        came = 0
        for topic in sorted(self._newest, key=lambda name: self._newest[name]):
            messages = self._readers[topic].poll_batch(MAX_ROWS, 0.0)
            if messages:
                self._monitor.receive(topic, messages)
                self._newest[topic] = max(message.timestamp for message in messages)
                came = len(messages)
                break
        if not came:
            topic = max(self._newest, key=lambda name: self._newest[name])
            messages = self._readers[topic].poll_batch(MAX_ROWS, timeout_s)
            self._monitor.receive(topic, messages)
            came = len(messages)
        if time.monotonic() >= self._due_at:
            self._due_at = time.monotonic() + self._due_every_s
            if self._monitor.due(self._ends_known) and self._ends is not None:
                self._ends_known = self._ends()
        self.send()
        return came

    def send(self) -> None:
        """Send what the monitor left.

        Raises:
            BrokerUnavailable: there is no room now; call again.
        """
        outbox = self._monitor.outbox
        while outbox:
            topic, key, value = outbox[0]
            self._producer.produce(self._settings.topic(topic), key, value)
            outbox.popleft()
        while self._monitor.alerted:
            alert = self._monitor.alerted.popleft()
            if self._notifier is not None:
                self._notifier.send(alert)


def run(settings: Settings) -> int:
    """Watch until SIGTERM or SIGINT; return the exit code. Call it in the main thread."""
    configure_logging(settings, SERVICE)
    stop = StopSignal()
    metrics = Metrics(SERVICE)
    events = EventClock()
    clock: Clock = events if settings.monitor_clock == "event" else SystemClock()
    waiting = "starting"
    with ExitStack() as parts:
        urls = settings.alert_urls.get_secret_value().split() if settings.alert_urls else []
        notifier = Notifier(urls, metrics)
        parts.callback(notifier.close)
        if settings.health_port:
            parts.enter_context(
                HealthServer(
                    settings.health_port, metrics, lambda: waiting, host=settings.health_host
                )
            )
        patiently(lambda: create_topics(settings, timeout_s=3.0), stop)
        producer = KafkaProducer(settings)
        parts.callback(producer.close)
        registry = parts.enter_context(open_registry(settings))
        monitor = build(settings, clock=clock, metrics=metrics, registry=registry)
        events.seen = monitor.seen
        reach = len(monitor.seen.quality.hours()) * HOUR
        since = clock.now_ms() - reach
        ends: dict[str, dict[int, int]] = {}
        readers: dict[str, KafkaReader] = {}

        def open_readers() -> None:
            for spec in FOLLOWED:
                name = settings.topic(spec)
                if spec.name not in readers:
                    first = None if spec is MODELS else offsets_at(settings, name, since)
                    ends[spec.name] = end_offsets(settings, name)
                    readers[spec.name] = KafkaReader(settings, name, first)
                    parts.callback(readers[spec.name].close)
            monitor.restore(
                read_all(settings, settings.topic(ALERTS)),
                read_all(settings, settings.topic(RETRAIN_REQUESTS)),
            )
            monitor.receive(MODELS.name, readers[MODELS.name].read_to_end())

        patiently(open_readers, stop)
        transactions = settings.topic(TRANSACTIONS)
        loop = Loop(
            monitor,
            readers,
            producer,
            notifier=notifier,
            ends=lambda: end_offsets(settings, transactions),
            settings=settings,
        )
        monitor.live = False
        report = _DailyReport(settings.report_folder, clock)
        waiting = "reading again what is kept"
        log.info("reading again", hours=reach // HOUR)
        began = time.monotonic()
        try:
            while not stop:
                try:
                    loop.step()
                except BrokerUnavailable as error:
                    log.warning("waiting for Kafka", reason=str(error))
                    metrics.count("retries", step="kafka")
                    metrics.set("ready", 0)
                    waiting = str(error)
                    stop.wait(0.5)
                    continue
                if not monitor.live:
                    monitor.live = all(
                        reader.positions()[number] >= end
                        for name, reader in readers.items()
                        for number, end in ends[name].items()
                    )
                    if not monitor.live:
                        continue
                    log.info("watching", seconds=round(time.monotonic() - began, 1))
                waiting = ""
                metrics.set("ready", 1)
                report.due()
        except FatalError as error:
            log.error("cannot go on", reason=str(error))
            return FAILED
    log.info("stopped")
    return 0


def build(settings: Settings, *, clock: Clock, metrics: Metrics, registry: Registry) -> Monitor:
    """Return the monitor that the settings ask for."""
    key = settings.pan_hmac_key
    return Monitor(
        Options.from_settings(settings),
        clock=clock,
        metrics=metrics,
        currencies=CurrencyTable(settings.base_currency, settings.currency_rates),
        models=Models(),
        registry=registry,
        label_registry=ConfluentRegistry.from_settings(settings),
        pan_key=key.get_secret_value().encode() if key else None,
    )


class _DailyReport:
    """Starts `python -m monitor report` over the day that ended, in a process of its own."""

    def __init__(self, folder: Path | None, clock: Clock) -> None:
        if folder is not None and not folder.is_dir():
            raise ConfigurationError(f"FRAUD_REPORT_FOLDER {folder} is no folder: create it")
        self._folder, self._clock = folder, clock
        self._day = clock.now_ms() // DAY
        self._child: subprocess.Popen[bytes] | None = None

    def due(self) -> None:
        """Start the report when a day has ended; log how the last one went."""
        if self._folder is None:
            return
        if self._child is not None and (code := self._child.poll()) is not None:
            log.info("daily report", exit_code=code)
            self._child = None
        day = self._clock.now_ms() // DAY
        if day == self._day or self._child is not None:
            return
        start, end = (datetime.fromtimestamp(each * DAY / 1e3, UTC) for each in (self._day, day))
        self._day = day
        output = self._folder / f"{start:%Y-%m-%d}.html"
        self._child = subprocess.Popen(
            [sys.executable, "-m", "monitor", "report", "--output", str(output),
             "--from", start.isoformat(), "--to", end.isoformat()]
        )  # fmt: skip
