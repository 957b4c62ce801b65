"""`python -m trainer backtest`: what a model and a policy would have decided in the past."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from runtime.command_line import Json, errors, require_folder, say, write_report
from runtime.files.options import MAX_SHARE, MaxRejected, OnErrorOption, RejectOptions, Rejects
from schemas.errors import ConfigurationError
from schemas.features import DAY
from trainer.commands.options import InputFile, LabelDelayDays, MappingFile


def backtest(
    input_path: InputFile,
    mapping: MappingFile,
    model: Annotated[str | None, typer.Option(help="model id in the registry")] = None,
    candidate: Annotated[Path | None, typer.Option(help="directory of a bundle instead")] = None,
    policy: Annotated[
        Path | None, typer.Option(help="policy, YAML or JSON; default: the bundle's thresholds")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="second model: id or directory; default the same model")
    ] = None,
    against_policy: Annotated[
        Path | None, typer.Option(help="policy of the second; default the same policy")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            help="judge from this day on (UTC, 2025-03-31); older rows only build up state"
        ),
    ] = None,
    cards_a_day: Annotated[int, typer.Option(min=1, help="k of card precision")] = 100,
    label_delay_days: LabelDelayDays = 7.0,
    on_error: OnErrorOption = "reject",
    max_rejected: MaxRejected = MAX_SHARE,
    rejects: Rejects = None,
    json_path: Json = None,
    html_path: Annotated[Path | None, typer.Option("--html", help="write the page here")] = None,
) -> None:
    """Replay history and report what a model under a policy would have decided.

    Example: python -m trainer backtest --input world.parquet
    --mapping loadtest/mappings/generator.yaml --candidate var/models/bootstrap-1
    --policy docs/policy.example.json --html backtest.html
    """
    if (model is None) == (candidate is None):
        raise ConfigurationError("give one of --model (an id) and --candidate (a directory)")
    require_folder(json=json_path, html=html_path, rejects=rejects)
    since_ms = None if since is None else _day(since)
    from runtime.files.intake import read_for_command
    from scorer.warm_up import warm_up
    from trainer.backtest import backtest as replay
    from trainer.backtest.backtest_report import figures, write_html
    from trainer.backtest.contenders import contender, read_policy_file

    first: str | Path = candidate if candidate is not None else str(model)
    own = read_policy_file(policy)
    contenders = [contender(first, own)]
    if against is not None or against_policy is not None:
        other = own if against_policy is None else read_policy_file(against_policy)
        contenders.append(contender(against or first, other))
    warm_up()
    began, busy = time.perf_counter(), time.process_time()
    left_out = RejectOptions(on_error=on_error, max_share=max_rejected, file=rejects)
    table = read_for_command(input_path, mapping, left_out).table
    columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task("replay and decide", total=table.num_rows)
        data = replay.run(
            table,
            contenders,
            label_delay_ms=round(label_delay_days * DAY),
            since_ms=since_ms,
            progress=lambda done: bar.advance(task, done),
        )
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    with errors.status("figures"):
        report = figures(data, cards_a_day=cards_a_day)
        report["speed"] = {
            "seconds": seconds,
            "cpu_seconds": busy,
            "transactions_per_s": data.replayed / seconds,
        }
        if html_path is not None:
            write_html(report, html_path)
    for one in report["contenders"]:
        rank, gain = one["ranking"], one["money"]
        say(
            f"{one['name']}: AUC {rank['auc']:.4f}, average precision "
            f"{rank['average_precision']:.3f}, card precision "
            f"{one['card_precision']['mean']:.3f}, blocked {gain['saved_by_block']:,.0f} of "
            f"{gain['fraud']:,.0f} fraud and {gain['insulted_by_block']:,.0f} genuine"
        )
    say(
        f"{data.replayed:,} transactions in {seconds:.1f} s ({busy:.1f} s of CPU): "
        f"{data.replayed / seconds:,.0f}/s"
    )
    write_report(report, json_path)


def _day(text: str) -> int:
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise ConfigurationError(f"--since {text!r} is not a day: write 2025-03-31") from error
    return round(day.timestamp() * 1000)
