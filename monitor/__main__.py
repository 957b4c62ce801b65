"""Command line of the monitor: `python -m monitor`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from runtime.command_line import Json, errors, run_command, say, write_report
from runtime.settings import load_settings
from schemas.errors import ConfigurationError

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
DAY_MS = 86_400_000


@app.command("run")
def run_service() -> None:
    """Watch quality and drift, raise alerts, request retraining and roll back bad models.

    Example: FRAUD_ALERT_URLS="slack://… json://host/hook" FRAUD_HEALTH_PORT=8084
    python -m monitor run
    """
    from monitor.process import run

    run(load_settings())


@app.command("report")
def write_html(
    output: Annotated[Path, typer.Option(help="HTML file to write")],
    since: Annotated[
        str | None, typer.Option("--from", help="ISO 8601; default a day before --to")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="ISO 8601; default now")] = None,
    input_path: Annotated[
        Path | None,
        typer.Option("--input", help="Parquet file of decisions and labels, instead of Kafka"),
    ] = None,
    json_path: Json = None,
) -> None:
    """Write Evidently's report on a period: drift from the period before, and classification.

    Example: python -m monitor report --output day.html --from 2026-05-01 --to 2026-05-02
    """
    from monitor.report import evidently

    end = _moment("--to", until) if until else int(datetime.now(UTC).timestamp() * 1000)
    start = _moment("--from", since) if since else end - DAY_MS
    if start >= end:
        raise ConfigurationError(f"--from {since} is not before --to {until}")
    with Progress(console=errors, transient=True) as bar:
        if input_path is not None:
            table = evidently.from_parquet(input_path)
        else:
            task = bar.add_task("reading", total=None)
            table = evidently.from_kafka(
                load_settings(), 2 * start - end, end, lambda count: bar.advance(task, count)
            )
        bar.add_task("report", total=None)
        rows = evidently.write(table, start, end, output)
    say(f"{output}: {rows['current']:,} decisions compared with {rows['reference']:,} before")
    write_report({"output": str(output), **rows}, json_path)


@app.command("bench")
def bench(
    decisions: Annotated[int, typer.Option(min=2_000, help="number of decisions")] = 10_000_000,
    json_path: Json = None,
) -> None:
    """Measure decisions per second on one core with all 71 features watched, and memory use.

    Example: python -m monitor bench --decisions 1000000 --json -
    """
    from monitor.benchmark import measure

    with Progress(console=errors, transient=True) as bar:
        task = bar.add_task("decisions", total=decisions)
        found = measure(decisions, lambda count: bar.advance(task, count))
    say(
        f"{found['decisions_per_s']:,} decisions/s on one core; after {found['decisions']:,}: "
        f"state {found['state_bytes'] / 1e6:.0f} MB, process {found['rss_end_bytes'] / 1e6:.0f} MB"
    )
    write_report(found, json_path)


def _moment(option: str, text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(
            f"{option} {text!r} is not a time: write 2026-05-01 or 2026-05-01T12:00+00:00"
        ) from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def main() -> None:
    """Run the command line; see run_command for errors and exit codes."""
    run_command(app)


if __name__ == "__main__":
    main()
