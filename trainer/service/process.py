"""The process `python -m trainer run`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from runtime.process import ServiceProcess
from runtime.settings import Settings
from schemas.errors import BrokerUnavailable, MembershipLost, TrainerBusy
from schemas.features import DAY
from trainer.registry.advancer import rules_of
from trainer.registry.champion_alias import ChampionAlias
from trainer.registry.signing import signer_of
from trainer.service import lock
from trainer.service.advancing import Advancing
from trainer.service.requests import RetrainRequests
from trainer.service.training_child import MB, ChildRunner, Limits
from trainer.service.training_service import SERVICE, TrainingService
from trainer.training import run_records, tracking
from trainer.training.run_records import RunRecord
from trainer.training.thresholds import MAX_FALSE

LOG_FILE: Final = "log.txt"


def run(
    settings: Settings, *, url: str | None, state: Path, output: Path, options: Sequence[str]
) -> None:
    """Train when it is due until SIGTERM or SIGINT. Call it in the main thread.

    A second service on the same folder of runs waits until the first has ended. `options` are given
    to `python -m trainer train`.

    Raises:
        ConfigurationError: a setting is wrong, or the folder of runs cannot be written.
    """
    with ServiceProcess(SERVICE, settings) as process:
        rules, place = rules_of(settings), url or settings.archive_url
        signer_of(settings, required=True)  # refuses to start where no run could be published
        process.patiently(
            lambda: process.parts.enter_context(lock.only_one(state, lock.SERVICE)), TrainerBusy
        )
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
            clock=process.clock,
        )
        service = TrainingService(
            runner,
            state,
            settings.retrain_minutes,
            clock=process.clock,
            metrics=process.metrics,
            recorded=recorded,
        )
        process.parts.callback(service.stop)
        advancing = Advancing(settings, rules, place, process.clock, process.metrics, alias)
        process.in_background("advance", advancing.run)
        requests = process.keep(RetrainRequests(settings, service))
        process.started(archive=place, at=settings.retrain_at, approval=settings.approval)
        process.repeat(requests.step, (BrokerUnavailable, MembershipLost))


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
