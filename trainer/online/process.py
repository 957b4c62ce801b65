"""The process `python -m trainer online`: puts its parts together and stops them in order."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from runtime.clock import SystemClock
from runtime.health import HealthServer
from runtime.kafka.model_registry import ModelRegistry, open_registry
from runtime.kafka.reader import KafkaReader, offset_bounds, offsets_at
from runtime.kafka.wire_format import ConfluentRegistry
from runtime.logs import configure_logging
from runtime.metrics import Metrics
from runtime.process import StopSignal
from runtime.settings import Settings
from schemas.errors import BrokerUnavailable, ConfigurationError
from trainer.online import state as online_state
from trainer.online.follower import FOLLOWED, SERVICE, Follower, public_key_of, restored
from trainer.online.learner import LearnerOptions
from trainer.online.learning import Online, OnlineOptions
from trainer.online.publish import Publisher

log = structlog.get_logger(__name__)
AGAIN_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Opened:
    """What talks to Kafka; `parts` is to be closed."""

    parts: ExitStack
    registry: ModelRegistry
    readers: dict[str, KafkaReader]


def options_of(settings: Settings) -> OnlineOptions:
    """Return what the settings ask for."""
    return OnlineOptions(
        records=settings.online_records,
        label_delay_ms=settings.label_delay.ms,
        learner=LearnerOptions(bound=settings.online_bound),
        margin=settings.online_margin,
        frauds=settings.online_frauds,
    )


def run(settings: Settings, *, output: Path, folder: Path) -> dict[str, Any]:
    """Learn until SIGTERM or SIGINT, save, and return a report. Call it in the main thread.

    Raises:
        ConfigurationError: the state, the topics or a bundle are not what the settings say.
    """
    configure_logging(settings, SERVICE)
    stop, metrics, clock = StopSignal(), Metrics(SERVICE), SystemClock()
    waiting = "starting"
    told: dict[str, Any] = {}
    with ExitStack() as parts:
        parts.enter_context(online_state.owned(folder))
        online = Online(options_of(settings))
        state = online_state.load(folder)
        if state is not None:
            restored(online, state)
        if settings.health_port:
            parts.enter_context(
                HealthServer(
                    settings.health_port, metrics, lambda: waiting, host=settings.health_host
                )
            )
        opened = _patiently(lambda: _open(settings, state, clock.now_ms()), stop)
        if opened is None:
            return {}
        parts.callback(opened.parts.close)
        registry, readers = opened.registry, opened.readers
        publisher = Publisher(
            registry, output, settings.online_stage, settings.online_share,
            current="" if state is None else state["json"]["current"],
        )  # fmt: skip
        key = settings.pan_hmac_key
        follower = Follower(
            online,
            readers,
            publisher,
            clock=clock,
            metrics=metrics,
            pan_key=key.get_secret_value().encode() if key else None,
            label_registry=ConfluentRegistry.from_settings(settings),
            public_key=public_key_of(settings.bundle_public_key),
        )

        def save() -> None:
            document = online.state()
            document["json"] |= {
                "current": publisher.current,
                "positions": {name: reader.positions() for name, reader in readers.items()},
            }
            online_state.save(folder, document)

        due = 0.0
        ready = False
        log.info("started", restored=state is not None, stage=settings.online_stage)
        while not stop:
            try:
                if not ready:
                    ready = follower.follow_champion(registry.states())
                    waiting = "" if ready else "no champion yet"
                    metrics.set("ready", ready)
                    due = time.monotonic() + settings.online_every.s
                    if not ready:
                        stop.wait(AGAIN_S)
                        continue
                follower.step()
                if time.monotonic() >= due:
                    due = time.monotonic() + settings.online_every.s
                    told = _evaluated(follower, told)
                    save()
                waiting = ""
                metrics.set("ready", 1)
            except BrokerUnavailable as error:
                waiting = str(error)
                log.warning("waiting", reason=waiting)
                metrics.set("ready", 0)
                metrics.count("retries", step="kafka")
                stop.wait(AGAIN_S)
        save()
    log.info("stopped")
    counts = online.counts
    return {
        "base": online.base,
        "transactions": counts.transactions,
        "learned_frauds": counts.frauds,
        "learned_genuine": counts.genuine,
        "last": told,
    }


def _evaluated(follower: Follower, before: dict[str, Any]) -> dict[str, Any]:
    """Evaluate; what an operator must mend stops publishing, not learning."""
    try:
        return follower.evaluate()
    except ConfigurationError as error:
        log.error("not published", reason=str(error))
        return before


def _open(settings: Settings, state: dict[str, Any] | None, now_ms: int) -> Opened:
    """Return the registry and readers that begin where the state says."""
    with ExitStack() as parts:
        registry = parts.enter_context(open_registry(settings))
        readers: dict[str, KafkaReader] = {}
        for spec in FOLLOWED:
            name = settings.topic(spec)
            if state is None:
                starts = offsets_at(settings, name, now_ms - 2 * settings.label_delay.ms)
            else:
                saved = state["json"]["positions"][spec.name]
                starts = {
                    number: min(max(int(saved.get(str(number), low)), low), end)
                    for number, (low, end) in offset_bounds(settings, name).items()
                }
            readers[spec.name] = KafkaReader(settings, name, starts)
            parts.callback(readers[spec.name].close)
        return Opened(parts.pop_all(), registry, readers)


def _patiently(open_: Callable[[], Opened], stop: StopSignal) -> Opened | None:
    """Return what is opened, waiting for a Kafka that is not there yet; None if stopped."""
    while True:
        try:
            return open_()
        except BrokerUnavailable as error:
            log.warning("waiting for Kafka", reason=str(error))
            if stop.wait(AGAIN_S):
                return None
