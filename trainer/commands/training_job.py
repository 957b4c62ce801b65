"""What `python -m trainer train` does once its options are read."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TimeElapsedColumn

from runtime.command_line import errors, say, write_report
from runtime.kafka.model_registry import open_registry
from runtime.settings import Settings
from schemas.errors import FraudError
from schemas.records import Stage
from trainer.commands.sources import Source, dataset_of, free_name
from trainer.dataset.check import DataReport, check
from trainer.dataset.data_bounds import DataBounds
from trainer.dataset.dataset import Dataset
from trainer.dataset.reference import missing_rates
from trainer.registry import publication
from trainer.registry.adjusted import base_of
from trainer.service.lock import TRAINING, only_one
from trainer.training import run_records, tracking
from trainer.training.run_records import RunRecord
from trainer.training.training_run import Champion, RunOptions, run_training


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """A training run and what becomes of its model.

    Args:
        champion: directory of the bundle to compare with, or "none"; None takes the model in
            service if this one is to be registered.
        stage: where a model that passes is put; None does not register it.
        share: a canary's share of the cards.
    """

    source: Source
    options: RunOptions
    data_bounds: DataBounds
    champion: str | None = None
    stage: Stage | None = None
    share: float | None = None


def run_job(job: TrainingJob, settings: Settings, json_path: Path | None) -> RunRecord:
    """Train, register and track, and write the record of the run, which is returned.

    A run that is repeated with its id goes on where it stopped. A model that passed but could not
    be registered is recorded and tracked all the same.

    Raises:
        TrainerBusy: another training is under way in this folder of runs.
        ConfigurationError, TemporaryError: see `run_training`, `dataset_of` and `publish_run`.
    """
    state = job.options.state_dir
    with only_one(state, TRAINING):
        record = _earlier(job.options) or _trained(job, settings)
        serving = record.champion_id if job.champion is None else None
        try:
            if record.passed and job.stage is not None and not record.stages:
                record = _register(job, settings, record, job.stage)
        except FraudError:  # whoever tries again needs the id of the run
            write_report(record.document(), json_path)
            raise
        finally:
            _track(settings, record, state, serving)
    _report(record)
    write_report(record.document(), json_path)
    return record


def _earlier(options: RunOptions) -> RunRecord | None:
    """Return the run of this id, unless it is to be run (again)."""
    if options.run_id is None:
        return None
    path = run_records.file_of(options.run_id, options.state_dir)
    if not path.exists():
        return None
    record = run_records.load(path)
    if record.state == "failed":
        return None
    say(f"{record.run_id} was trained before: it goes on from there", "yellow")
    return record


def _trained(job: TrainingJob, settings: Settings) -> RunRecord:
    options = job.options
    free_name(options.model_id, options.output)
    against = _champion(job, settings)
    data, provenance = _data(job.source, settings, options)
    if job.source.as_of is not None:  # the gap is the label delay of that run
        gap_ms = provenance["maturity_ms"]
        options = replace(options, train=replace(options.train, gap_ms=gap_ms))

    def checked(found: Dataset) -> DataReport:
        missing = None if against is None else missing_rates(against.directory, against.sha256)
        return check(found, job.data_bounds, missing)

    columns = ("[progress.description]{task.description}", BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task(f"training on {len(data):,} transactions", total=None)
        return run_training(
            data,
            provenance,
            options,
            against,
            checked,
            progress=lambda share: bar.update(task, total=1.0, completed=share),
        )


def _data(
    source: Source, settings: Settings, options: RunOptions
) -> tuple[Dataset, dict[str, Any]]:
    """Return the data; a run that gets none is recorded as failed."""
    began = time.time_ns() // 1_000_000
    try:
        return dataset_of(source, settings, options.state_dir)
    except FraudError as error:
        place = "replay" if source.input_path is not None else "archive"
        run_id = options.run_id or f"run-{began}-{os.getpid()}"
        failed = run_records.failed(run_id, began, time.time_ns() // 1_000_000, str(error), place)
        run_records.save(failed, options.state_dir)
        raise


def _champion(job: TrainingJob, settings: Settings) -> Champion | None:
    if job.champion is not None:
        return None if job.champion == "none" else publication.champion_of(Path(job.champion))
    if job.stage is None:
        return None
    with open_registry(settings) as registry:
        return publication.current_champion(registry)


def _register(job: TrainingJob, settings: Settings, record: RunRecord, stage: Stage) -> RunRecord:
    with open_registry(settings) as registry:
        share = job.share if stage == "CANARY" else None
        publication.publish_run(registry, record, stage, share, settings.bundle_trust)
    record = record.at(("REGISTERED",) if stage == "REGISTERED" else ("REGISTERED", stage))
    run_records.save(record, job.options.state_dir)
    return record


def _track(settings: Settings, record: RunRecord, state: Path, serving: str | None) -> None:
    if settings.mlflow_tracking_uri is None:
        return
    tracking.spool(record, state)
    if serving is not None:
        serving = None if "CHAMPION" in record.stages else base_of(serving)
    done = tracking.upload(settings, state, champion_id=serving)
    if done.left:
        say(f"{len(done.left)} runs wait for MLflow in {state / 'spool'}: {done.reason}", "yellow")


def _report(record: RunRecord) -> None:
    if not record.passed:
        say(f"{record.model_id} is {record.state}:\n  " + "\n  ".join(record.reasons), "red")
        return
    auc, precision = record.metrics["auc"], record.metrics["average_precision"]
    where = f", {' then '.join(record.stages)}" if record.stages else ""
    say(f"{record.model_id}: AUC {auc:.4f}, average precision {precision:.4f}{where}")
    say(f"bundle and model card in {record.bundle}")
