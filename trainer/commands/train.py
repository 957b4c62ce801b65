"""`python -m trainer train`: one training run, from data to a registered model.

Suits cron, Airflow and Prefect: one command, a JSON report, and exit codes:

    0  the model passed, and is registered with --publish
    1  refused by the data check or by a gate; the report and standard error say why
    2  an option, a setting or the data must be changed
    3  something outside is not ready (Kafka, the archive's storage), or another run is under way:
       the same command may succeed later
    70 a crash, with its traceback on standard error

A command that is given the same --run-id again goes on where it stopped: a trained model is only
registered. One run at a time in a folder of runs. An MLflow server that is down
changes none of these: the run is spooled.
"""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from runtime.command_line import FAILURE, Json, require_folder
from runtime.files.options import MAX_SHARE, MaxRejected, OnErrorOption, RejectOptions, Rejects
from runtime.settings import load_settings
from schemas.errors import ConfigurationError
from schemas.features import DAY
from schemas.records import Stage
from trainer.commands.options import (
    BundleFolder,
    Cutoff,
    ModelName,
    OptionalInput,
    OptionalMapping,
    OtherArchive,
    RunFolder,
    Threads,
)
from trainer.commands.sources import Source
from trainer.training.parameters import ROUNDS

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
    input_path: OptionalInput = None,
    mapping: OptionalMapping = None,
    on_error: OnErrorOption = "reject",
    max_rejected: MaxRejected = MAX_SHARE,
    rejects: Rejects = None,
    archive: OtherArchive = None,
    cutoff: Cutoff = None,
    since: Annotated[
        str | None, typer.Option(help="with --archive: transactions from then on (UTC)")
    ] = None,
    as_of: Annotated[
        str | None, typer.Option(help="the very data of an earlier run from the archive")
    ] = None,
    early: Annotated[
        bool,
        typer.Option("--early", help="also learn from immature transactions that have a label"),
    ] = False,
    data_bounds: Annotated[
        Path | None, typer.Option(help="YAML with other bounds of the data check")
    ] = None,
    output: BundleFolder = Path("var/models"),
    state: RunFolder = Path("var/trainer"),
    model_id: ModelName = None,
    run_id: Annotated[
        str | None, typer.Option(help="run-…: the same again goes on where it stopped")
    ] = None,
    label_delay_days: Annotated[
        float | None, typer.Option(min=0.001, help="label delay; default FRAUD_LABEL_DELAY")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="most trees")] = ROUNDS,
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
        float, typer.Option(min=0.0, max=1.0, help="wanted precision of blocks")
    ] = 0.95,
    review_precision: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="wanted precision of blocks and reviews")
    ] = 0.75,
    settled_precision: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="wanted precision of newly settled alerts (--early)"),
    ] = 0.90,
    max_false: Annotated[
        float | None,
        typer.Option(
            "--most-false",
            min=0.0,
            max=1.0,
            help="highest share of genuine transactions to block or review; default any",
        ),
    ] = None,
    threads: Threads = 1,
    seed: Annotated[int, typer.Option(min=0, help="the same seed trains the same model")] = 7,
    gates: Annotated[Path | None, typer.Option(help="YAML with other bounds")] = None,
    champion: Annotated[
        str | None,
        typer.Option(help="bundle to compare with, or 'none'; with --publish the champion"),
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
    from trainer.commands.training_job import TrainingJob, run_job
    from trainer.dataset.data_bounds import DataBounds
    from trainer.evaluation.gate_bounds import load_bounds
    from trainer.registry.signing import signer_of
    from trainer.training import run_records
    from trainer.training.batch_training import TrainOptions
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
    if review_precision > block_precision:
        raise ConfigurationError(
            f"--review-precision {review_precision:g} is above --block-precision "
            f"{block_precision:g}: a block must be surer than a review"
        )
    settings = load_settings()
    delay = settings.label_delay.ms if label_delay_days is None else round(label_delay_days * DAY)
    search = SearchOptions(seconds=search_seconds, trials=search_trials, metric=metric.value)
    wanted: Stage = "REGISTERED" if approval else (stage or FirstStage.SHADOW).value
    job = TrainingJob(
        source=Source(
            input_path=input_path,
            mapping=mapping,
            rejects=RejectOptions(on_error=on_error, max_share=max_rejected, file=rejects),
            archive=archive,
            cutoff=cutoff,
            since=since,
            as_of=as_of,
            early=early,
            label_delay_ms=delay,
        ),
        options=RunOptions(
            run_id=None if run_id is None else run_records.checked_id(run_id),
            model_id=model_id or f"model-{time.time_ns() // 1_000_000}",
            output=output,
            state_dir=state,
            train=TrainOptions(
                gap_ms=delay,
                rounds=rounds,
                max_depth=max_depth,
                eta=eta,
                metric=metric.value,
                early_stopping=early_stopping,
                search=search if search_seconds > 0 else None,
                targets=PrecisionTargets(
                    block=block_precision,
                    review=review_precision,
                    settled=settled_precision,
                    max_false=max_false,
                ),
                threads=threads,
                seed=seed,
            ),
            bounds=load_bounds(gates),
            signer=signer_of(settings, required=publish),
        ),
        data_bounds=DataBounds.load(data_bounds) if data_bounds else DataBounds(),
        champion=champion,
        stage=wanted if publish else None,
        share=share or CANARY_SHARE,
    )
    if not run_job(job, settings, json_path).passed:
        raise typer.Exit(FAILURE)


def _require_used(*options: tuple[str, object, str, bool]) -> None:
    """Refuse options that would be ignored: name, value (None: not given), what it needs, is it."""
    for name, value, needed, used in options:
        if value is not None and not used:
            raise ConfigurationError(f"{name} goes with {needed}: without it, it does nothing")
