"""The process `python -m trainer run`: puts the service together and stops it in order."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import structlog

from runtime.clock import Clock, SystemClock
from runtime.health import HealthServer
from runtime.kafka.clients import KafkaConsumer
from runtime.kafka.model_registry import open_registry
from runtime.kafka.topic_admin import create_topics
from runtime.logs import configure_logging
from runtime.metrics import Metrics
from runtime.process import StopSignal
from runtime.settings import Settings
from schemas.errors import BrokerUnavailable, FraudError, MembershipLost, TrainerBusy
from schemas.features import DAY
from schemas.topics import RETRAIN_REQUESTS
from trainer.archive.tables import Archive
from trainer.registry.advance import AdvanceRules
from trainer.registry.advancer import EVERY_S, Advancer, ArchivedDecisions, rules_of
from trainer.registry.champion_alias import ChampionAlias
from trainer.service import lock
from trainer.service.child import MB, ChildRunner, Limits
from trainer.service.service import SERVICE, TrainingService
from trainer.training import run_records, tracking
from trainer.training.run_records import RunRecord
from trainer.training.thresholds import MAX_FALSE

log = structlog.get_logger(__name__)
GROUP: Final = "trainer"
LOG_FILE: Final = "log.txt"
POLL_S: Final = 1.0


def run(
    settings: Settings, *, url: str | None, state: Path, output: Path, options: Sequence[str]
) -> None:
    """Train when it is due until SIGTERM or SIGINT. Call it in the main thread.

    A second service on the same folder of runs waits until the first has ended. `options` are given
    to `python -m trainer train`.

    Raises:
        ConfigurationError: a setting is wrong, or the folder of runs cannot be written.
    """
    configure_logging(settings, SERVICE)
    stop, metrics, clock = StopSignal(), Metrics(SERVICE), SystemClock()
    rules, place = rules_of(settings), url or settings.archive_url
    waiting = ["starting"]
    with ExitStack() as parts:
        if settings.health_port:
            parts.enter_context(
                HealthServer(
                    settings.health_port, metrics, lambda: waiting[0], host=settings.health_host
                )
            )

        def locked() -> bool:
            try:
                parts.enter_context(lock.only_one(state, lock.SERVICE))
            except TrainerBusy as error:
                if waiting[0] != str(error):
                    log.warning("waits", reason=str(error))
                waiting[0] = str(error)
                return False
            return True

        while not locked():
            if stop.wait(POLL_S):
                return

        alias = None
        if settings.mlflow_tracking_uri is not None:
            alias = ChampionAlias(lambda model_id: tracking.point_champion(settings, model_id))

        def recorded(record: RunRecord) -> None:
            if alias is not None:
                alias.moved()
                if record.state == "failed":
                    tracking.spool(record, state)

        runner = ChildRunner(
            lambda run_id: command(settings, place, state, output, run_id, options),
            lambda run_id: run_records.file_of(run_id, state).with_name(LOG_FILE),
            Limits(time_ms=settings.train_time.ms, memory_bytes=settings.train_memory_mb * MB),
            nice=settings.train_nice,
            clock=clock,
        )
        service = TrainingService(
            runner,
            state,
            settings.retrain_minutes,
            clock=clock,
            metrics=metrics,
            recorded=recorded,
        )
        parts.callback(service.stop)
        parts.callback(_advancing(settings, rules, place, clock, metrics, alias))
        log.info("started", archive=place, at=settings.retrain_at, approval=settings.approval)
        _follow(settings, service, stop, waiting, metrics)
    log.info("stopped")


def command(
    settings: Settings, place: str, state: Path, output: Path, run_id: str, options: Sequence[str]
) -> list[str]:
    """Return the command line of one run; `options` win over what is given here."""
    return [
        sys.executable, "-m", "trainer", "train", "--archive", place, "--early", "--publish",
        "--run-id", run_id, "--state", str(state), "--output", str(output),
        "--label-delay-days", repr(settings.label_delay.ms / DAY), "--most-false", repr(MAX_FALSE),
        *(["--approval"] if settings.approval else []), *options,
    ]  # fmt: skip


def _follow(
    settings: Settings,
    service: TrainingService,
    stop: StopSignal,
    waiting: list[str],
    metrics: Metrics,
) -> None:
    """Read requests and look after runs; without Kafka the daily runs go on."""
    consumer: KafkaConsumer | None = None
    try:
        while not stop:
            try:
                if consumer is None:
                    consumer = _joined(settings, service)
                service.receive(consumer.poll_batch(500, POLL_S))
                waiting[0] = "" if consumer.assignment() else "no partitions yet"
            except (BrokerUnavailable, MembershipLost) as error:
                log.warning("waiting for Kafka", reason=str(error))
                metrics.count("retries", step="kafka")
                waiting[0] = str(error)
                if consumer is not None and isinstance(error, MembershipLost):
                    consumer.close()
                    consumer = None
                stop.wait(POLL_S)
            metrics.set("ready", 0 if waiting[0] else 1)
            if stop:
                break
            service.step()
            if consumer is not None:
                _commit(consumer, service)
    finally:
        if consumer is not None:
            consumer.close()


def _joined(settings: Settings, service: TrainingService) -> KafkaConsumer:
    create_topics(settings, timeout_s=3.0)
    return KafkaConsumer(
        settings,
        settings.group(GROUP),
        [settings.topic(RETRAIN_REQUESTS)],
        on_revoke=service.revoked,
        instance_id=settings.worker_id,
    )


def _commit(consumer: KafkaConsumer, service: TrainingService) -> None:
    try:
        consumer.commit(service.commits())
    except (BrokerUnavailable, MembershipLost) as error:  # they are read, and passed over, again
        log.warning("not committed", reason=str(error))


def _advancing(
    settings: Settings,
    rules: AdvanceRules,
    place: str,
    clock: Clock,
    metrics: Metrics,
    alias: ChampionAlias | None,
) -> Callable[[], None]:
    """Carry candidates on every minute on a thread of its own, and MLflow's alias after them.

    Returns what ends that.
    """
    stop = threading.Event()
    archive = Archive.from_settings(settings, place)
    behind = round(4000 * settings.archive_flush_after.s)
    decisions = ArchivedDecisions(archive, clock, behind_ms=behind)

    def work() -> None:
        while not stop.is_set():
            try:
                with open_registry(settings) as registry:
                    advancer = Advancer(
                        registry,
                        rules,
                        decisions.made,
                        approval=settings.approval,
                        clock=clock,
                        metrics=metrics,
                    )
                    while True:
                        advancer.due()
                        if alias is not None:
                            alias.follow(registry.states())
                        if stop.wait(EVERY_S):
                            return
            except FraudError as error:
                log.warning("candidates stay where they are for now", reason=str(error))
                stop.wait(EVERY_S)

    thread = threading.Thread(target=work, name="advance", daemon=True)
    thread.start()

    def end() -> None:
        stop.set()
        thread.join(10.0)

    return end
