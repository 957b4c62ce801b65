"""The process `python -m trainer online`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import structlog

from runtime.kafka.wire_format import PatientRegistry
from runtime.process import ServiceProcess
from runtime.settings import Settings
from schemas.errors import BrokerUnavailable, ConfigurationError, RegistryUnavailable
from trainer.online import state as online_state
from trainer.online.follower import SERVICE, OnlineFollower, restored
from trainer.online.learner import LearnerOptions
from trainer.online.learning import Online, OnlineOptions
from trainer.online.opening import OnlineInputs, open_inputs
from trainer.online.publish import Publisher
from trainer.registry.signing import signer_of

log = structlog.get_logger(__name__)
LOOK_S = 1.0
"""How often the registry is asked for a champion while there is none."""


def options_of(settings: Settings) -> OnlineOptions:
    """Return the options that the settings ask for."""
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
    with ServiceProcess(SERVICE, settings) as process:
        process.parts.enter_context(online_state.owned(folder))
        online = Online(options_of(settings))
        state = online_state.load(folder)
        if state is not None:
            restored(online, state)
        inputs = process.keep(
            process.patiently(lambda: open_inputs(settings, state, process.clock.now_ms()))
        )
        signer = signer_of(settings, required=False)
        if signer is None and settings.bundle_public_key is not None:
            log.warning("bundles must be signed, and FRAUD_BUNDLE_SIGNING_KEY is not set: it only "
                        "measures")  # fmt: skip
        publisher = Publisher(
            inputs.registry, output, settings.online_stage, settings.online_share, signer,
            current="" if state is None else state["json"]["current"],
        )  # fmt: skip
        follower = OnlineFollower(
            online,
            inputs.readers,
            publisher,
            clock=process.clock,
            metrics=process.metrics,
            pan_key=settings.pan_key,
            label_registry=PatientRegistry.from_settings(
                settings, process.retry(RegistryUnavailable)
            ),
            trust=settings.bundle_trust,
        )
        rounds = _Rounds(process, follower, inputs, publisher, folder)
        process.started(restored=state is not None, stage=settings.online_stage)
        process.repeat(rounds.step, BrokerUnavailable)
        rounds.save()
    counts = online.counts
    return {
        "base": online.base,
        "transactions": counts.transactions,
        "learned_frauds": counts.frauds,
        "learned_genuine": counts.genuine,
        "last": rounds.last,
    }


class _Rounds:
    """Learning, and every FRAUD_ONLINE_EVERY an evaluation, after which the state is saved."""

    def __init__(
        self,
        process: ServiceProcess,
        follower: OnlineFollower,
        inputs: OnlineInputs,
        publisher: Publisher,
        folder: Path,
    ) -> None:
        self._process, self._follower, self._inputs = process, follower, inputs
        self._publisher, self._folder = publisher, folder
        self._every_s = process.settings.online_every.s
        self._has_champion = False
        self._due = 0.0
        self.last: dict[str, Any] = {}
        """The newest evaluation."""

    def step(self) -> str:
        """Learn from what has come; return why the learner is not ready, or ""."""
        if not self._has_champion:
            self._has_champion = self._follower.follow_champion(self._inputs.registry.states())
            self._due = time.monotonic() + self._every_s
            if not self._has_champion:
                self._process.stop.wait(LOOK_S)
                return "no champion yet"
        self._follower.step()
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + self._every_s
            try:
                self.last = self._follower.evaluate()
            except ConfigurationError as error:  # an operator must help; learning goes on
                log.error("not published", reason=str(error))
            self.save()
        return ""

    def save(self) -> None:
        """Save the learner and how far the topics were read."""
        document = self._follower.online.state()
        document["json"] |= {
            "current": self._publisher.current,
            "positions": self._inputs.positions(),
        }
        online_state.save(self._folder, document)
