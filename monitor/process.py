"""The process `python -m monitor run`: reads the retained messages, then follows and evaluates.

It reads without a consumer group, because quality and drift need all partitions. Run only one: a
second process would write every alert twice.
"""

from __future__ import annotations

from functools import partial

from monitor.catch_up import CatchUp
from monitor.daily_report import DailyReport
from monitor.event_clock import EventClock
from monitor.judge.alerts import SERVICE
from monitor.judge.rollback import StageRegistry
from monitor.loop import MonitorLoop
from monitor.notify import Notifier
from monitor.observe.served_models import ServedModels, bundle_histograms
from monitor.service import Monitor, MonitorOptions
from runtime.clock import Clock
from runtime.kafka.clients import KafkaProducer
from runtime.kafka.model_registry import open_registry
from runtime.kafka.reader import end_offsets
from runtime.kafka.wire_format import PatientRegistry
from runtime.metrics import Metrics
from runtime.process import ServiceProcess
from runtime.settings import Settings
from schemas.errors import BrokerUnavailable, RegistryUnavailable
from schemas.features import HOUR
from schemas.topics import TRANSACTIONS
from schemas.validation import SchemaRegistry


def run(settings: Settings) -> None:
    """Watch until SIGTERM or SIGINT. Call it in the main thread."""
    with ServiceProcess(SERVICE, settings) as process:
        events = EventClock()
        clock: Clock = events if settings.monitor_clock == "event" else process.clock
        urls = settings.alert_urls.get_secret_value().split() if settings.alert_urls else []
        notifier = process.keep(Notifier(urls, process.metrics))
        process.create_topics()
        producer = process.keep(KafkaProducer(settings))
        registry = process.parts.enter_context(open_registry(settings))
        monitor = build(
            settings,
            clock=clock,
            metrics=process.metrics,
            registry=registry,
            label_registry=PatientRegistry.from_settings(
                settings, process.retry(RegistryUnavailable)
            ),
        )
        events.seen = monitor.seen
        kept_ms = len(monitor.seen.quality.hours()) * HOUR
        catch_up = CatchUp(process, monitor, clock.now_ms() - kept_ms)
        process.patiently(catch_up.open)
        transactions = settings.topic(TRANSACTIONS)
        loop = MonitorLoop(
            monitor,
            catch_up.readers,
            producer,
            notifier=notifier,
            ends=lambda: end_offsets(settings, transactions),
            settings=settings,
        )
        report = DailyReport(settings.report_folder, clock)

        def step() -> str:
            loop.step()
            if not catch_up.done():
                return "reading the retained messages"
            report.step()
            return ""

        process.started(hours=kept_ms // HOUR)
        process.repeat(step, BrokerUnavailable)


def build(
    settings: Settings,
    *,
    clock: Clock,
    metrics: Metrics,
    registry: StageRegistry,
    label_registry: SchemaRegistry | None = None,
) -> Monitor:
    """Return a monitor configured by the settings."""
    return Monitor(
        MonitorOptions.from_settings(settings),
        clock=clock,
        metrics=metrics,
        currencies=settings.currencies,
        models=ServedModels(partial(bundle_histograms, trust=settings.bundle_trust)),
        registry=registry,
        label_registry=label_registry,
        pan_key=settings.pan_key,
    )
