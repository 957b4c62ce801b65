"""`python -m trainer bootstrap`: a first model from history."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress

from schemas.errors import ConfigurationError
from schemas.features import DAY
from schemas.runtime.command_line import errors, say, write_report
from schemas.runtime.settings import load_settings
from trainer.parameters import ROUNDS


def bootstrap(
    input_path: Annotated[Path, typer.Option("--input", help="Parquet or CSV file of history")],
    mapping: Annotated[Path, typer.Option(help="YAML mapping of its columns, with a label")],
    output: Annotated[Path, typer.Option(help="folder for bundles")] = Path("var/models"),
    model_id: Annotated[str | None, typer.Option(help="name; default from the clock")] = None,
    label_delay_days: Annotated[float, typer.Option(min=0.001, help="label delay")] = 7.0,
    rounds: Annotated[int, typer.Option(min=1, help="trees")] = ROUNDS,
    threads: Annotated[
        int, typer.Option(min=1, help="threads of XGBoost; more than free cores make it slower")
    ] = 1,
    publish: Annotated[bool, typer.Option(help="make it the champion on `models`")] = False,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="write the report here; - for stdout")
    ] = None,
) -> None:
    """Train a first model by replay of history, write its bundle and, if asked, publish it.

    Example: python -m trainer bootstrap --input day.parquet
    --mapping loadtest/mappings/handbook.yaml --output var/models --publish
    """
    from trainer import batch, bundle, dataset, registry

    began = time.perf_counter()
    now = time.time_ns() // 1_000_000
    name = model_id or f"bootstrap-{now}"
    if Path(name).name != name or name in {".", ".."}:
        raise ConfigurationError(f"--model-id {name!r} must be a plain name, without slashes")
    if (output / name).exists():  # known now, not after minutes of training
        raise ConfigurationError(f"{output / name} exists: give another --output or --model-id")
    delay = round(label_delay_days * DAY)
    columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task("replay", total=None)
        data = dataset.from_file(
            input_path, mapping, label_delay_ms=delay, progress=lambda done: bar.advance(task, done)
        )
    with errors.status(f"training on {len(data.time):,} transactions"):
        trained = batch.train(data, gap_ms=delay, rounds=rounds, threads=threads)
    directory = output / name
    sha256 = bundle.write(directory, name, trained)
    events = [
        registry.model_event(name, stage, directory, sha256, trained.metrics, occurred_at=now)
        for stage in registry.FIRST_STEPS
    ]
    if publish:
        registry.publish(load_settings(), events)
    report = {
        "model_id": name,
        "artefact_uri": events[-1]["artefact_uri"],
        "sha256": sha256,
        "fingerprint": events[-1]["fingerprint"].hex(),
        "metrics": trained.metrics,
        "thresholds": trained.thresholds,
        "seconds": time.perf_counter() - began,
    }
    auc, precision = trained.metrics["auc"], trained.metrics["average_precision"]
    say(f"{name}: AUC {auc:.4f}, average precision {precision:.4f}, in {directory}")
    write_report(report, json_path)
