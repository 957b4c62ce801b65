"""`python -m trainer online`: learn from each label, beside and on top of the champion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress

from runtime.command_line import Json, errors, say, write_report
from runtime.settings import Settings, load_settings
from schemas.errors import ConfigurationError
from trainer.commands.options import BundleFolder, OptionalMapping

if TYPE_CHECKING:
    from rich.table import Table


def online(
    input_path: Annotated[
        Path | None, typer.Option("--input", help="replay this file instead of following Kafka")
    ] = None,
    mapping: OptionalMapping = None,
    model: Annotated[Path | None, typer.Option(help="bundle of the champion, for --input")] = None,
    since: Annotated[
        str | None, typer.Option(help="with --input: the champion was trained on everything before")
    ] = None,
    output: BundleFolder = Path("var/models"),
    state: Annotated[Path, typer.Option(help="folder of what it has learned")] = Path(
        "var/trainer/online"
    ),
    json_path: Json = None,
) -> None:
    """Learn from each label as it comes; publish a light adjustment of the champion's score.

    It is a shadow until it ranks better than the champion over a long enough window, and again when
    it no longer does. Without --input it runs until stopped; with it, a file is replayed and
    nothing is published.

    Example: python -m trainer online --input day.parquet --mapping loadtest/mappings/generator.yaml
    --model var/models/bootstrap-1 --since 2025-03-26 --json -
    """
    settings = load_settings()
    if input_path is None:
        if mapping or model or since:
            raise ConfigurationError("--mapping, --model and --since go with --input")
        from trainer.online import process

        write_report(process.run(settings, output=output, folder=state), json_path)
        return
    if mapping is None or model is None:
        raise ConfigurationError("--input needs --mapping and --model")
    report = _replayed(settings, input_path, mapping, model, since)
    errors.print(_table(report))
    say(
        f"{report['learned_frauds']:,} frauds and {report['learned_genuine']:,} genuine learned, "
        f"{report['published']} adjustments published, used on {report['days_used']} of "
        f"{len(report['days'])} days"
    )
    write_report(report, json_path)


def _replayed(
    settings: Settings, path: Path, mapping: Path, bundle: Path, since: str | None
) -> dict[str, Any]:
    from runtime.files.options import RejectOptions
    from scorer.model.bundle import load_model
    from trainer.commands.sources import moment, replayed
    from trainer.online.process import options_of
    from trainer.online.replayed_learning import replay
    from trainer.registry.publication import champion_of

    champion = champion_of(bundle)
    model = load_model(champion.directory, champion.sha256)
    since_ms = None if since is None else moment("--since", since)
    data = replayed(path, mapping, settings.label_delay.ms, RejectOptions())
    columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task("learn", total=len(data))
        return replay(
            data, model, options_of(settings), since_ms=since_ms,
            progress=lambda done: bar.advance(task, done),
        )  # fmt: skip


def _table(report: dict[str, Any]) -> Table:
    from datetime import UTC, datetime

    from rich.table import Table

    table = Table("until (UTC)", "frauds", "champion", "online", "AUC difference (95%)", "used")
    table.columns[4].no_wrap = True
    for day in report["days"]:
        when = f"{datetime.fromtimestamp(day['time'] / 1e3, UTC):%Y-%m-%d}"
        if "frauds" not in day:
            table.add_row(when, "0", "", "", "", "")
            continue
        table.add_row(
            when,
            str(day["frauds"]),
            f"{day['champion_auc']:.4f}",
            f"{day['online_auc']:.4f}",
            f"{day['difference']:+.4f} ({day['low']:+.4f} to {day['high']:+.4f})",
            "yes" if day["better"] else "",
        )
    return table
