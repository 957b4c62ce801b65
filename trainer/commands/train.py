"""`python -m trainer train`: one training run, from data to a registered model.

Suits cron, Airflow and Prefect: one command, a JSON report, and exit codes:

    0  the model passed, and is registered with --publish
    1  refused by the data check or by a gate; the report and standard error say why
    2  an option, a setting or the data must be changed
    3  something outside is not ready (Kafka, the archive's storage), or another run is under way:
       the same command may succeed later
    70 a crash, with its traceback on standard error

A command that is given the same --run-id again goes on where it stopped: what was trained is not
trained again, only registered. One run at a time in a folder of runs. An MLflow server that is down
changes none of these: the run is spooled.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TimeElapsedColumn

from runtime.command_line import Json, errors, require_folder, say, write_report
from runtime.kafka.model_registry import open_registry
from runtime.settings import load_settings
from schemas.errors import ConfigurationError, FraudError
from schemas.features import DAY
from trainer.commands.sources import Source, dataset_of, free_name

if TYPE_CHECKING:
    from runtime.settings import Settings
    from schemas.records import Stage
    from trainer.dataset.data_bounds import DataBounds
    from trainer.dataset.dataset import Dataset
    from trainer.training.run_records import RunRecord
    from trainer.training.training_run import Champion, RunOptions

REFUSED = 1
CANARY_SHARE = 0.1


class FirstStage(StrEnum):
    """Where a model that passed goes, unless a person is to decide."""

    SHADOW = "SHADOW"
    CANARY = "CANARY"
    CHAMPION = "CHAMPION"


class RankMetric(StrEnum):
    """What search and early stopping go by."""

    AUCPR = "aucpr"
    AUC = "auc"


def train(
    input_path: Annotated[
        Path | None, typer.Option("--input", help="Parquet or CSV file of history")
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option(help="YAML mapping of its columns, with a label")
    ] = None,
    archive: Annotated[
        str | None, typer.Option(help="what was served: folder or s3:// URL, instead of --input")
    ] = None,
    cutoff: Annotated[
        str | None, typer.Option(help="with --archive: what was known then (UTC); default now")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="with --archive: transactions from then on (UTC)")
    ] = None,
    as_of: Annotated[
        str | None, typer.Option(help="the very data of an earlier run from the archive")
    ] = None,
    early: Annotated[
        bool,
        typer.Option("--early", help="also learn from young transactions that have a label"),
    ] = False,
    data_bounds: Annotated[
        Path | None, typer.Option(help="YAML with other bounds of the data check")
    ] = None,
    output: Annotated[Path, typer.Option(help="folder for bundles")] = Path("var/models"),
    state: Annotated[Path, typer.Option(help="folder for runs")] = Path("var/trainer"),
    model_id: Annotated[str | None, typer.Option(help="name; default from the clock")] = None,
    run_id: Annotated[
        str | None, typer.Option(help="run-…: the same again goes on where it stopped")
    ] = None,
    label_delay_days: Annotated[
        float | None, typer.Option(min=0.001, help="label delay; default FRAUD_LABEL_DELAY")
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(min=1, help="most trees; default in trainer/training"),
    ] = None,
    max_depth: Annotated[int | None, typer.Option(min=1, max=16, help="of a tree")] = None,
    eta: Annotated[float | None, typer.Option(min=0.0001, max=1.0, help="learning rate")] = None,
    early_stopping: Annotated[
        bool, typer.Option(help="as many trees as are best on the newest quarter")
    ] = False,
    search_seconds: Annotated[
        float, typer.Option(min=0.0, help="search hyper-parameters for so long; 0: do not")
    ] = 0.0,
    search_trials: Annotated[
        int | None,
        typer.Option(min=1, help="with --search-seconds: end it after so many trials"),
    ] = None,
    metric: Annotated[RankMetric, typer.Option(help="what both of them go by")] = RankMetric.AUCPR,
    block_precision: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="wanted of what is blocked")
    ] = 0.95,
    review_precision: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="wanted of what is blocked or reviewed")
    ] = 0.75,
    settled_precision: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="wanted of lately settled alerts, with --early"),
    ] = 0.90,
    most_false: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, help="highest share of genuine to block or review; default any"
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="threads of XGBoost")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="the same seed trains the same model")] = 7,
    gates: Annotated[Path | None, typer.Option(help="YAML with other bounds")] = None,
    champion: Annotated[
        str | None,
        typer.Option(help="bundle to compare with, or 'none'; default with --publish: who serves"),
    ] = None,
    publish: Annotated[bool, typer.Option(help="register it on `models` if it passes")] = False,
    approval: Annotated[
        bool, typer.Option(help="with --publish: register it only, a person promotes it")
    ] = False,
    stage: Annotated[
        FirstStage | None,
        typer.Option(help="with --publish: where it goes, unless --approval; default SHADOW"),
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(help="with --stage CANARY: above 0 and up to 1; default 0.1"),
    ] = None,
    json_path: Json = None,
) -> None:
    """Train, check and register a model; exits 0 passed, 1 refused, 2 wrong options, 3 try later.

    Example: python -m trainer train --archive var/archive --search-seconds 600 --publish --json -

    Example: python -m trainer train --input history.parquet
    --mapping loadtest/mappings/generator.yaml
    """
    from trainer.dataset.data_bounds import DataBounds
    from trainer.evaluation.gate_bounds import load_bounds
    from trainer.service.lock import TRAINING, only_one
    from trainer.training import run_records
    from trainer.training.batch_training import TrainOptions
    from trainer.training.parameters import ROUNDS
    from trainer.training.search import SearchOptions
    from trainer.training.thresholds import PrecisionTargets
    from trainer.training.training_run import RunOptions

    require_folder(json=json_path)
    _require_used(
        ("--search-trials", search_trials, "--search-seconds", search_seconds > 0),
        ("--approval", approval or None, "--publish", publish),
        ("--stage", stage, "--publish", publish),
        ("--share", share, "--stage CANARY", stage is FirstStage.CANARY),
        ("--label-delay-days", label_delay_days, "--input or --archive", as_of is None),
    )
    if share is not None and not 0 < share <= 1:
        raise ConfigurationError(f"--share {share:g} must be above 0 and up to 1")
    settings = load_settings()
    delay = settings.label_delay.ms if label_delay_days is None else round(label_delay_days * DAY)
    source = Source(
        input_path=input_path,
        mapping=mapping,
        archive=archive,
        cutoff=cutoff,
        since=since,
        as_of=as_of,
        early=early,
        label_delay_ms=delay,
    )
    bounds = DataBounds.load(data_bounds) if data_bounds else DataBounds()
    options = RunOptions(
        run_id=None if run_id is None else run_records.checked_id(run_id),
        model_id=model_id or f"model-{time.time_ns() // 1_000_000}",
        output=output,
        state_dir=state,
        train=TrainOptions(
            gap_ms=delay,
            rounds=rounds or ROUNDS,
            max_depth=max_depth,
            eta=eta,
            metric=metric.value,
            early_stopping=early_stopping,
            search=None
            if search_seconds == 0
            else SearchOptions(seconds=search_seconds, trials=search_trials, metric=metric.value),
            targets=PrecisionTargets(
                block=block_precision,
                review=review_precision,
                settled=settled_precision,
                most_false=most_false,
            ),
            threads=threads,
            seed=seed,
        ),
        bounds=load_bounds(gates),
    )
    if review_precision > block_precision:
        raise ConfigurationError(
            f"--review-precision {review_precision:g} is above --block-precision "
            f"{block_precision:g}: what is blocked must be surer than what is reviewed"
        )
    with only_one(state, TRAINING):
        record = _earlier(options)
        if record is None:
            free_name(options.model_id, output)
            against = _champion(settings, champion, publish)
            data, provenance = _data(source, settings, options)
            if as_of is not None:  # the gap is that run's label delay
                gap_ms = provenance["maturity_ms"]
                options = replace(options, train=replace(options.train, gap_ms=gap_ms))
            record = _run(data, provenance, options, against, bounds)
        serving = record.champion_id if champion is None else None
        try:
            if record.passed and publish and not record.stages:
                wanted: Stage = "REGISTERED" if approval else (stage or FirstStage.SHADOW).value
                record = _register(settings, record, wanted, share or CANARY_SHARE, state)
        except FraudError:  # it passed and is recorded: whoever tries again needs its run_id
            write_report(record.document(), json_path)
            raise
        finally:  # a run whose model Kafka did not take is tracked too
            _track(settings, record, state, serving)
    _tell(record)
    write_report(record.document(), json_path)
    if not record.passed:
        raise typer.Exit(REFUSED)


def _earlier(options: RunOptions) -> RunRecord | None:
    """Return the run of this id, unless it is to be run (again)."""
    from trainer.training import run_records

    if (
        options.run_id is None
        or not run_records.file_of(options.run_id, options.state_dir).exists()
    ):
        return None
    record = run_records.load(run_records.file_of(options.run_id, options.state_dir))
    if record.state == "failed":
        return None
    say(f"{record.run_id} was trained before: it goes on from there", "yellow")
    return record


def _data(
    source: Source, settings: Settings, options: RunOptions
) -> tuple[Dataset, dict[str, Any]]:
    """Return the data; a run that gets none is recorded as failed."""
    from trainer.training import run_records

    began = time.time_ns() // 1_000_000
    try:
        return dataset_of(source, settings, options.state_dir)
    except FraudError as error:
        place = "replay" if source.input_path is not None else "archive"
        run_id = options.run_id or f"run-{began}-{os.getpid()}"
        failed = run_records.failed(run_id, began, time.time_ns() // 1_000_000, str(error), place)
        run_records.save(failed, options.state_dir)
        raise


def _require_used(*options: tuple[str, object, str, bool]) -> None:
    """Refuse options that would be ignored: name, value (None: not given), what it needs, is it."""
    for name, value, needed, used in options:
        if value is not None and not used:
            raise ConfigurationError(f"{name} goes with {needed}: without it, it does nothing")


def _champion(settings: Settings, given: str | None, publish: bool) -> Champion | None:
    from trainer.registry import publication

    if given is not None:
        return None if given == "none" else publication.champion_of(Path(given))
    if not publish:
        return None
    with open_registry(settings) as registry:
        return publication.current_champion(registry)


def _run(
    data: Dataset,
    provenance: dict[str, Any],
    options: RunOptions,
    against: Champion | None,
    bounds: DataBounds,
) -> RunRecord:
    from trainer.dataset.check import DataReport, check
    from trainer.dataset.reference import missing_rates
    from trainer.training.training_run import run_training

    def checked(found: Dataset) -> DataReport:
        missing = None if against is None else missing_rates(against.directory, against.sha256)
        return check(found, bounds, missing)

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


def _register(
    settings: Settings, record: RunRecord, stage: Stage, share: float, state: Path
) -> RunRecord:
    from trainer.registry.publication import publish_run
    from trainer.training import run_records

    with open_registry(settings) as registry:
        publish_run(registry, record, stage, share if stage == "CANARY" else None)
    record = record.at(("REGISTERED",) if stage == "REGISTERED" else ("REGISTERED", stage))
    run_records.save(record, state)
    return record


def _track(settings: Settings, record: RunRecord, state: Path, serving: str | None) -> None:
    if settings.mlflow_tracking_uri is None:
        return
    from trainer.registry.adjusted import base_of
    from trainer.training import tracking

    tracking.spool(record, state)
    if serving is not None:
        serving = None if "CHAMPION" in record.stages else base_of(serving)
    done = tracking.upload(settings, state, champion_id=serving)
    if done.left:
        say(f"{len(done.left)} runs wait for MLflow in {state / 'spool'}: {done.reason}", "yellow")


def _tell(record: RunRecord) -> None:
    if not record.passed:
        say(f"{record.model_id} is {record.state}:\n  " + "\n  ".join(record.reasons), "red")
        return
    auc, precision = record.metrics["auc"], record.metrics["average_precision"]
    where = f", {' then '.join(record.stages)}" if record.stages else ""
    say(f"{record.model_id}: AUC {auc:.4f}, average precision {precision:.4f}{where}")
    say(f"bundle and model card in {record.bundle}")
