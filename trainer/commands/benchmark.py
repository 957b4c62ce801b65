"""`python -m trainer benchmark`: the catalogue on a published data set."""

from __future__ import annotations

import time
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress
from rich.table import Table

from runtime.command_line import Json, errors, require_folder, write_report
from trainer.commands.options import Threads
from trainer.training.parameters import ROUNDS


def benchmark(
    data_path: Annotated[Path, typer.Option("--data", help="Parquet or CSV file of transactions")],
    mapping: Annotated[
        Path | None,
        typer.Option(help="YAML mapping of its columns; default: the handbook's own columns"),
    ] = None,
    published: Annotated[
        Path | None,
        typer.Option(help="Parquet file of the features published with it, to measure beside ours"),
    ] = None,
    start: Annotated[
        list[datetime] | None,
        typer.Option(formats=["%Y-%m-%d"], help="first day of a training week; may be repeated"),
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="trees for a week; twice for all history")
    ] = ROUNDS,
    threads: Threads = 1,
    json_path: Json = None,
) -> None:
    """Measure the catalogue by the protocol of the Fraud Detection Handbook.

    Four folds of 7 days of training, 7 of delay and 7 of test, from 2018-08-15, -08-08, -08-01 and
    2018-07-25; cards known to be defrauded are left out. AUC ROC, average precision and card
    precision at 100 a day; strict: trained on the week, full: on everything up to its end.

    Example: python -m trainer benchmark --data handbook.parquet
    --published handbook_features.parquet --json benchmark.json
    """
    require_folder(json=json_path)
    from trainer.benchmark import handbook, handbook_benchmark
    from trainer.benchmark.handbook_protocol import STARTS
    from trainer.dataset.replayed import from_table

    began = time.perf_counter()
    starts: list[date] = [day.date() for day in start or []] or list(STARTS)
    columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        table, meaning = handbook.read_mapped(data_path, mapping)
        task = bar.add_task("replay", total=table.num_rows)
        data = from_table(table, progress=lambda done: bar.advance(task, done))
        folds = handbook_benchmark.folds(data, starts)
        theirs = None
        if published is not None:
            theirs = handbook.published_features(published, meaning, data.transactions)
        models = bar.add_task("models", total=len(folds) * (2 if theirs is None else 3))
        report = handbook_benchmark.run(
            data,
            folds,
            theirs,
            handbook_benchmark.BenchmarkOptions(threads=threads, rounds=rounds),
            fitted=lambda: bar.advance(models),
        )
    errors.print(_shown(report))
    report["transactions"] = len(data)
    report["seconds"] = time.perf_counter() - began
    write_report(report, json_path)


TITLES = {
    "strict": "strict (7 days)",
    "full": "full history",
    "published_features": "published features",
}


def _shown(report: dict[str, Any]) -> Table:
    """Return mean ± standard deviation of the figures over the folds."""
    table = Table("", "AUC ROC", "avg precision", "card precision@100")
    for name, title in TITLES.items():
        part = report[name]
        if part is not None:
            cells = [f"{part[key]:.3f} ± {part['std'][key]:.3f}" for key in part["std"]]
            table.add_row(title, *cells)
    return table
