"""`python -m loadtest generate|run|max|limit|verify|demo|page`; loadtest/README.md says more."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from loadtest.options import (
    FIRST_DAY,
    Bootstrap,
    Check,
    Customers,
    DriftDay,
    FirstDay,
    FraudFactor,
    Json,
    LabelOrder,
    Messages,
    ModelDir,
    NewPattern,
    NewPatternFactor,
    NoModel,
    Partitions,
    Prefix,
    Redis,
    Scorers,
    Seed,
    Start,
    WarmUp,
    Workers,
    day_of,
    feed_of,
    target_of,
)
from schemas.errors import ConfigurationError
from schemas.runtime.command_line import errors as err
from schemas.runtime.command_line import run_command, say, write_report

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


@app.command()
def generate(
    days: Annotated[int, typer.Option(min=1, help="days of history")],
    output: Annotated[Path, typer.Option(help="Parquet file to write")],
    customers: Customers = 3_000,
    seed: Seed = 7,
    first_day: FirstDay = FIRST_DAY,
    new_pattern_day: NewPattern = None,
    new_pattern_factor: NewPatternFactor = 1.0,
    drift_day: DriftDay = None,
    fraud_factor: FraudFactor = 1.0,
    messages: Messages = False,
    json_path: Json = None,
) -> None:
    """Write history of the generated world with labels, for loadtest/mappings/generator.yaml.

    Beside the mapped columns there are `fraud`, the truth, and `scenario`, which kind it is.

    Example: python -m loadtest generate --days 60 --customers 5000 --output var/history.parquet
    """
    from loadtest.history import write_history
    from loadtest.world import World

    first = day_of(first_day)
    pattern = None if new_pattern_day is None else first + new_pattern_day
    world = World(
        customers,
        seed,
        new_pattern_day=pattern,
        new_pattern_factor=new_pattern_factor,
        drift_day=None if drift_day is None else first + drift_day,
        fraud_factor=fraud_factor,
    )
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("days", total=days)
        done = write_history(
            world, first, days, output, lambda day: bar.update(task, completed=day),
            messages=messages,
        )  # fmt: skip
    rows = sum(done.rows)
    say(f"{rows:,} transactions, {done.frauds:,} frauds ({done.reported:,} labels): {output}")
    found = {"transactions": rows, "frauds": done.frauds, "labels": done.reported}
    write_report(
        found | {"customers": customers, "seed": seed, "rows_by_day": done.rows}, json_path
    )


@app.command()
def run(
    rate: Annotated[float, typer.Option(min=0, help="transactions a second, open loop")] = 0.0,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="how long to send")] = None,
    speedup: Annotated[
        float, typer.Option(min=0, help="send a file in its own time, so many times as fast")
    ] = 0.0,
    input_path: Annotated[Path | None, typer.Option("--input", help="Parquet or CSV file")] = None,
    mapping: Annotated[Path | None, typer.Option(help="YAML mapping of its columns")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="only the first rows of the file")] = None,
    labels: Annotated[LabelOrder, typer.Option(help="when labels are sent")] = "due",
    queued: Annotated[
        int, typer.Option(min=0, help="transactions queued before the services start")
    ] = 0,
    swap_at: Annotated[
        float | None, typer.Option(min=0, help="second at which --swap-to becomes champion")
    ] = None,
    swap_to: Annotated[Path | None, typer.Option(help="model bundle to swap to")] = None,
    swaps: Annotated[
        int, typer.Option(min=1, help="swaps, alternating between --swap-to and the first champion")
    ] = 1,
    swap_every: Annotated[float, typer.Option(min=0.1, help="seconds between swaps")] = 2.0,
    shadow: Annotated[
        list[Path] | None, typer.Option(help="model bundle that scores beside; repeatable")
    ] = None,
    customers: Customers = 20_000,
    seed: Seed = 7,
    first_day: FirstDay = FIRST_DAY,
    new_pattern_day: NewPattern = None,
    bootstrap: Bootstrap = None,
    redis: Redis = None,
    prefix: Prefix = None,
    partitions: Partitions = 4,
    workers: Workers = 1,
    scorers: Scorers = 1,
    services: Start = True,
    model: ModelDir = None,
    no_model: NoModel = False,
    warm_up: WarmUp = 10.0,
    check: Check = False,
    json_path: Json = None,
) -> None:
    """Send transactions through the services and account for every one.

    The generated world's stream at a rate, or a file with its labels in event-time order.

    Example: python -m loadtest run --rate 1000 --seconds 60 --check --json report.json

    Example: python -m loadtest run --input day.parquet
    --mapping loadtest/mappings/handbook.yaml --speedup 3600

    Example: python -m loadtest run --rate 1000 --seconds 60
    --swap-at 20 --swap-to var/models/next --swaps 10 --swap-every 2
    """
    from loadtest.run import Plan
    from loadtest.run import run as measured
    from loadtest.sender import Order
    from loadtest.swap import Swap

    if bool(rate) == bool(speedup):
        raise ConfigurationError(
            "give either --rate (a second) or --speedup (of a file's own time)"
        )
    if input_path is None and (speedup or seconds is None):
        raise ConfigurationError("the generated stream has no end: give --rate and --seconds")
    if (swap_at is None) != (swap_to is None):
        raise ConfigurationError("give both --swap-at and --swap-to, or neither")
    if swaps > 1 and (swap_to is None or no_model or not services):
        raise ConfigurationError(
            "--swaps goes with --swap-at, --swap-to and a first champion: "
            "leave --no-model and --no-services out"
        )
    swap = None
    if swap_at is not None and swap_to is not None:
        swap = Swap(swap_at, (swap_to,), swaps, swap_every)
    plan = Plan(
        target=target_of(bootstrap, redis, prefix, partitions, services),
        feed=feed_of(
            customers, seed, first_day, new_pattern_day,
            input_path=input_path, mapping=mapping, rows=rows, labels=labels,
        ),
        order=Order(rate=rate, speedup=speedup, seconds=seconds),
        workers=workers,
        scorers=scorers,
        start_services=services,
        model=model,
        no_model=no_model,
        queued=queued,
        warm_up_s=warm_up if input_path is None else 0.0,
        swap=swap,
        shadows=tuple(shadow or ()),
    )  # fmt: skip
    watch, view = _view()
    with view:
        found = measured(plan, watch, view)
    _finish(found, json_path, check=check)


@app.command("max")
def maximum(
    p99_ms: Annotated[float, typer.Option(min=1, help="bound on p99")] = 50.0,
    hold: Annotated[float, typer.Option(min=1, help="seconds that the rate must be held")] = 30.0,
    first_rate: Annotated[float, typer.Option(min=1, help="rate to begin with")] = 2_000.0,
    budget: Annotated[float, typer.Option(min=1, help="longest search in seconds")] = 300.0,
    with_limit: Annotated[
        bool, typer.Option("--with-limit", help="measure the bare echo in the same run, too")
    ] = False,
    customers: Customers = 20_000,
    seed: Seed = 7,
    bootstrap: Bootstrap = None,
    redis: Redis = None,
    prefix: Prefix = None,
    partitions: Partitions = 4,
    workers: Workers = 1,
    scorers: Scorers = 1,
    services: Start = True,
    model: ModelDir = None,
    no_model: NoModel = False,
    warm_up: WarmUp = 10.0,
    check: Check = False,
    json_path: Json = None,
) -> None:
    """Find the highest rate that the services hold with p99 under a bound.

    Example: python -m loadtest max --p99-ms 50 --with-limit --json max.json
    """
    from loadtest.maximum import Search
    from loadtest.maximum import run as measured
    from loadtest.run import Plan
    from loadtest.sender import Order

    plan = Plan(
        target=target_of(bootstrap, redis, prefix, partitions, services),
        feed=feed_of(customers, seed, FIRST_DAY, None),
        order=Order(rate=first_rate),
        workers=workers,
        scorers=scorers,
        start_services=services,
        model=model,
        no_model=no_model,
        warm_up_s=warm_up,
    )
    search = Search(p99_ms=p99_ms, hold_s=hold, first_rate=first_rate, budget_s=budget)
    watch, view = _view()
    with view:
        found = measured(plan, search, watch, view, with_limit=LIMIT_COUNT if with_limit else 0)
    if "limit" in found:
        bare = found["limit"]["throughput_per_s"]
        say(f"bare echo {bare:,.0f}/s; ratio {found['ratio_to_limit']:.3f}")
    _finish(found, json_path, check=check)
    if not found["held"]:
        say(f"no rate was held with p99 under {p99_ms:g} ms", "red")
        raise typer.Exit(1)


LIMIT_COUNT: Final = 1_000_000


@app.command()
def limit(
    count: Annotated[int, typer.Option(min=1_000, help="transactions sent flat out")] = LIMIT_COUNT,
    seconds: Annotated[float, typer.Option(min=0.5, help="then at 1,000/s for latency")] = 5.0,
    customers: Customers = 20_000,
    seed: Seed = 7,
    bootstrap: Bootstrap = None,
    redis: Redis = None,
    prefix: Prefix = None,
    partitions: Partitions = 4,
    json_path: Json = None,
) -> None:
    """Measure the bare echo: the same hops, generator and receiver, with nothing in between.

    Example: python -m loadtest limit --json limit.json
    """
    from loadtest.deployment import deployed
    from loadtest.limit import measure

    watch, view = _view()
    with view:
        view.say("starting Kafka and Redis" if bootstrap is None else "connecting")
        feed = feed_of(customers, seed, FIRST_DAY, None)
        with deployed(target_of(bootstrap, redis, prefix, partitions, True)) as place:
            found = measure(place, feed, watch, view, count=count, seconds=seconds)
    _finish(found, json_path, check=False)


@app.command()
def verify(
    input_path: Annotated[Path, typer.Option("--input", help="Parquet or CSV file")],
    mapping: Annotated[Path, typer.Option(help="YAML mapping of its columns")],
    rows: Annotated[int | None, typer.Option(min=1, help="only the first rows")] = None,
    live: Annotated[
        float, typer.Option(min=0, help="send at this rate to running services; 0: a backlog")
    ] = 0.0,
    kills: Annotated[
        int, typer.Option(min=0, help="kill -9 each service so often; restart Kafka and Redis once")
    ] = 0,
    workers: Workers = 1,
    scorers: Scorers = 1,
    partitions: Partitions = 4,
    seed: Seed = 7,
    model: Annotated[Path | None, typer.Option(help="bundle to score by; default: none")] = None,
    data: Annotated[Path, typer.Option(help="folder for the stack and the files")] = Path(
        "var/verify"
    ),
    json_path: Json = None,
) -> None:
    """Prove that what is served live equals a replay of the same file, bit for bit.

    Exit code 1 if anything is lost, answered differently twice, or a card's features differ.

    Example: python -m loadtest verify --input day.parquet
    --mapping loadtest/mappings/handbook.yaml --rows 200000 --kills 5
    """

    from loadtest.deployment import emptied
    from loadtest.verify import VerifyOptions, passed, verify

    options = VerifyOptions(
        input=input_path,
        mapping=mapping,
        rows=rows,
        mode="live" if live else "backlog",
        rate=live,
        workers=workers,
        scorers=scorers,
        partitions=partitions,
        kills=kills,
        seed=seed,
        model=model,
    )
    emptied(data)
    with Progress(
        "[progress.description]{task.description}", BarColumn(), MofNCompleteColumn(), console=err
    ) as bar:
        task = bar.add_task("starting Kafka and Redis", total=None)
        report = verify(
            options,
            data,
            lambda text, done, total: bar.update(
                task, description=text, completed=done, total=total
            ),
        )
    err.print_json(data=report)
    write_report(report, json_path)
    if not passed(report):
        sys.exit(1)


@app.command()
def demo(
    rate: Annotated[float, typer.Option(min=1, help="transactions a second")] = 200.0,
    seconds: Annotated[
        float | None,
        typer.Option(min=1, envvar="DEMO_SECONDS", help="end after this long; default: Ctrl-C"),
    ] = None,
    data: Annotated[Path, typer.Option(help="directory, emptied first")] = Path("var/demo"),
    customers: Customers = 2_000,
    seed: Seed = 7,
    new_pattern_day: NewPattern = None,
    json_path: Json = None,
) -> None:
    """Show everything at work: history, a model, live traffic, decisions with their reasons.

    With --seconds the report is the last line on standard output.

    Example: python -m loadtest demo --rate 200 --seconds 60
    """
    import time

    from loadtest.demo import Demo
    from loadtest.demo import run as shown
    from loadtest.demo_view import DemoDetails
    from loadtest.view import View
    from loadtest.watch import Watch

    watch = Watch()
    details = DemoDetails(watch)
    plan = Demo(
        directory=data,
        rate=rate,
        seconds=seconds,
        customers=customers,
        seed=seed,
        today=int(time.time() // 86_400),
        new_pattern_day=new_pattern_day,
    )
    view = View(watch, err, details=details)
    with view:
        found = shown(plan, watch, view, details)
    if json_path is None and not found["interrupted"]:
        json_path = Path("-")
    _finish(found, json_path, check=False)


@app.command("gateway")
def gateway_load(
    connections: Annotated[int, typer.Option(min=1, help="kept connections")] = 16,
    seconds: Annotated[float, typer.Option(min=0.5, help="how long to send")] = 30.0,
    batch: Annotated[
        bool, typer.Option("--batch", help="send batches of --rows to /score-transactions")
    ] = False,
    rows: Annotated[int, typer.Option(min=1, help="transactions a batch")] = 5_000,
    deadline: Annotated[
        int | None, typer.Option(min=1, help="Request-Timeout-Ms; default: the gateway's own")
    ] = None,
    faults: Annotated[
        bool, typer.Option("--faults", help="instead, take scorer, Redis and Kafka away in turn")
    ] = False,
    rate: Annotated[float, typer.Option(min=1, help="with --faults: requests a second")] = 200.0,
    away: Annotated[float, typer.Option(min=1, help="with --faults: seconds of each")] = 20.0,
    data: Annotated[Path, typer.Option(help="with --faults: directory, emptied first")] = Path(
        "var/gateway"
    ),
    customers: Customers = 20_000,
    seed: Seed = 7,
    bootstrap: Bootstrap = None,
    redis: Redis = None,
    prefix: Prefix = None,
    partitions: Partitions = 4,
    model: ModelDir = None,
    no_model: NoModel = False,
    warm_up: WarmUp = 5.0,
    json_path: Json = None,
) -> None:
    """Measure the REST gateway, one worker, with the whole pipeline behind it; closed loop.

    Example: python -m loadtest gateway --connections 16 --seconds 30 --json gateway.json

    Example: python -m loadtest gateway --connections 2 --seconds 30 --batch

    Example: python -m loadtest gateway --faults --rate 200 --away 20
    """
    from loadtest.deployment import emptied
    from loadtest.gateway import Plan
    from loadtest.gateway import run as measured
    from loadtest.gateway_faults import FaultPlan
    from loadtest.gateway_faults import run as disturbed

    if faults:
        if bootstrap is not None or redis is not None:
            raise ConfigurationError("--faults stops Kafka and Redis: it starts its own")
        plan = FaultPlan(
            directory=emptied(data), rate=rate, away_s=away, customers=customers, seed=seed,
            deadline_ms=deadline or 100,
        )  # fmt: skip
        found = disturbed(plan, say)
    else:
        found = measured(
            Plan(
                target=target_of(bootstrap, redis, prefix, partitions, True),
                connections=connections,
                seconds=seconds,
                warm_up_s=warm_up,
                batch=rows if batch else 0,
                deadline_ms=deadline,
                customers=customers,
                seed=seed,
                first_day=day_of(FIRST_DAY),
                model=model,
                no_model=no_model,
            ),
            say,
        )
    _finish(found, json_path, check=False)


def _view() -> Any:
    from loadtest.view import View
    from loadtest.watch import Watch

    watch = Watch()
    return watch, View(watch, err)


def _finish(found: Mapping[str, Any], json_path: Path | None, *, check: bool) -> None:
    """Print the summary, write the report, and exit 1 when something is wrong."""
    from loadtest import bounds, report

    for text in report.summary(found):
        say(text)
    wrong = report.failures(found)
    if check:
        kept, broken = bounds.check(found)
        for text in kept:
            say(f"kept: {text}")
        wrong += broken
    for text in wrong:
        say(f"broken: {text}", "red")
    write_report(found, json_path)
    if wrong:
        raise typer.Exit(1)


@app.command("page")
def live_page(
    address: Annotated[str, typer.Option(help="of a dashboard that runs, under traffic")],
    username: Annotated[str, typer.Option(help="who looks; the password is FRAUD_PAGE_PASSWORD")],
    minutes: Annotated[float, typer.Option(min=0.1, help="how long to look")] = 10.0,
    check: Check = False,
    json_path: Json = None,
) -> None:
    """Look at the live page in Chromium: load time, and whether its memory stays steady.

    Example: FRAUD_PAGE_PASSWORD=… python -m loadtest page --address http://127.0.0.1:8050
    --username vera --minutes 10 --json -
    """
    from loadtest.page import Visit, visit

    password = os.environ.get("FRAUD_PAGE_PASSWORD")
    if not password:
        raise ConfigurationError("FRAUD_PAGE_PASSWORD is not set: put the password there")
    what = Visit(
        address=address.rstrip("/"), username=username, password=password, seconds=60 * minutes
    )
    with Progress(BarColumn(), TimeRemainingColumn(), console=err, transient=True) as bar:
        task = bar.add_task("page", total=1.0)
        found = visit(what, lambda share: bar.update(task, completed=share))
    grown = ", ".join(f"{name} {each:+.1%}" for name, each in found["growth"].items())
    say(f"loaded in {found['load_ms']} ms; from the middle to the end: {grown}")
    write_report(found, json_path)
    if check and not found["steady"]:
        raise typer.Exit(1)


@app.command("compile")
def compile_kernels() -> None:
    """Compile the load generator's kernels into the cache.

    Example: python -m loadtest compile
    """
    import numpy as np

    from loadtest.answers import read_answers
    from loadtest.encode import encode_transactions
    from loadtest.ledger import Ledger
    from loadtest.world import World

    with err.status("compiling the load generator (seconds, once)"):
        encoded = encode_transactions(World(300, seed=1).day(20_000))
        ledger = Ledger(0)
        ledger.sent(encoded.identity, np.zeros(len(encoded.identity), np.int64))
        ledger.received(read_answers(encoded.values, 0))


def main() -> None:
    """Run the command line; see run_command for errors and exit codes."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run_command(_start)


def _start() -> None:
    from schemas.runtime.logs import configure_logging
    from schemas.runtime.settings import load_settings

    configure_logging(load_settings(), "loadtest")
    app()


if __name__ == "__main__":
    main()
