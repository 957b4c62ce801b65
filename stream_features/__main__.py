"""Command line of the stream processor: `python -m stream_features`."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from runtime.command_line import Json, errors, run_command, say, write_report
from runtime.files.options import MAX_SHARE, MaxRejected, OnErrorOption, RejectOptions, Rejects
from runtime.settings import Settings, load_settings
from schemas.currency import decimals
from schemas.errors import ConfigurationError
from schemas.features import CATALOGUE, COUNTED, DAY, FINGERPRINT
from schemas.keys import EntityKind
from schemas.words.quantities import duration
from stream_features import mapping_command
from stream_features.worker.watchdog import STALL_S

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
app.add_typer(mapping_command.app, name="mapping")
RESTARTS = "STREAM_FEATURES_RESTARTS"
"""Environment variable that passes the number of restarts to the replacing process."""


def _progress() -> Progress:
    columns = (
        "[progress.description]{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=errors, transient=True)


@app.command()
def features() -> None:
    """Print the feature catalogue as a table.

    Example: python -m stream_features features
    """
    table = Table(title=f"{len(CATALOGUE)} features, fingerprint {FINGERPRINT.hex()}")
    for heading in ("#", "name", "entity", "kind", "window", "unit", "description"):
        table.add_column(heading)
    for number, feature in enumerate(CATALOGUE, 1):
        table.add_row(
            str(number),
            feature.name,
            feature.entity,
            feature.kind,
            duration(feature.window) if feature.window else "",
            COUNTED.get(feature.unit, (feature.unit, feature.unit))[1],
            feature.description,
        )
    Console().print(table)


@app.command()
def run(
    bootstrap: Annotated[str | None, typer.Option(help="Kafka, instead of FRAUD_BOOTSTRAP")] = None,
    redis: Annotated[str | None, typer.Option(help="Redis, instead of FRAUD_REDIS_URL")] = None,
    worker_id: Annotated[
        str | None, typer.Option(help="fixed name in the group, instead of FRAUD_WORKER_ID")
    ] = None,
    from_start: Annotated[
        bool, typer.Option(help="start with an empty store even though positions were committed")
    ] = False,
    stall_seconds: Annotated[
        float,
        typer.Option(min=1.0, help="seconds without progress after which the process restarts"),
    ] = STALL_S,
) -> None:
    """Compute features live: `transactions` and `labels` in, `features` out, until Ctrl-C.

    Example: FRAUD_BOOTSTRAP=localhost:9092 python -m stream_features run --worker-id one
    """

    given = {"bootstrap": bootstrap, "redis_url": redis, "worker_id": worker_id}
    settings = load_settings(**{name: value for name, value in given.items() if value is not None})
    _serve(settings, from_start=from_start, stall_seconds=stall_seconds)


def _serve(settings: Settings, *, from_start: bool, stall_seconds: float) -> None:
    """Run until the end; replace a process that makes no progress by a new one."""
    from runtime.process import START_ANEW
    from stream_features.process import run as serve

    restarts = int(os.environ.get(RESTARTS, "0"))
    code = serve(settings, from_start=from_start, stall_s=stall_seconds, restarts=restarts)
    if code == START_ANEW:
        os.environ[RESTARTS] = str(restarts + 1)
        arguments = [each for each in sys.argv[1:] if each != "--from-start"]
        os.execv(sys.executable, [sys.executable, "-m", "stream_features", *arguments])
    sys.exit(code)


@app.command()
def replay(
    input_path: Annotated[Path, typer.Option("--input", help="Parquet or CSV file")],
    mapping: Annotated[Path, typer.Option(help="YAML mapping of its columns")],
    output: Annotated[Path, typer.Option(help="Parquet file to write")],
    label_delay_days: Annotated[
        float, typer.Option(min=0.001, help="days until a fraud label counts")
    ] = 7.0,
    on_error: OnErrorOption = "reject",
    max_rejected: MaxRejected = MAX_SHARE,
    rejects: Rejects = None,
    json_path: Json = None,
) -> None:
    """Compute all features of a file, in event order, exactly as live processing does.

    Rows that live processing would refuse are left out and counted.

    Example: python -m stream_features replay --input day.parquet
    --mapping loadtest/mappings/handbook.yaml --output features.parquet --rejects rejects.csv
    """
    began = time.perf_counter()
    from runtime.files.intake import read_for_command
    from stream_features.offline.replay import in_words, replay_to_file

    options = RejectOptions(on_error=on_error, max_share=max_rejected, file=rejects)
    found = read_for_command(input_path, mapping, options)
    with _progress() as bar:
        task = bar.add_task("replay", total=found.table.num_rows)
        rows, engine_seconds, told = replay_to_file(
            found.table,
            output,
            label_delay_ms=round(label_delay_days * DAY),
            progress=lambda done: bar.advance(task, done),
        )
    seconds = time.perf_counter() - began
    rate, engine_rate = rows / seconds, rows / max(engine_seconds, 1e-9)
    say(
        f"{rows:,} transactions in {seconds:.2f} s, {rate:,.0f}/s (engine alone "
        f"{engine_rate:,.0f}/s), to {output}"
    )
    left_out = ", ".join(f"{count:,} × {kind}" for kind, count in found.rejected.items())
    unread = ", ".join(f"{field} {count:,}" for field, count in found.unread.items())
    for name, listed in (
        ("among them", in_words(told)), ("left out", left_out), ("could not be read", unread),
    ):  # fmt: skip
        if listed:
            say(f"{name}: {listed}")
    report = {
        "transactions": rows,
        "told": told,
        "seconds": seconds,
        "throughput_per_s": rate,
        "engine_seconds": engine_seconds,
        "engine_per_s": engine_rate,
        "input": found.report(),
    }
    write_report(report, json_path)


@app.command("rebuild")
def rebuild_state(
    then_run: Annotated[bool, typer.Option(help="go live afterwards, as `run` does")] = False,
    incomplete: Annotated[
        bool, typer.Option(help="rebuild even though Kafka has deleted a part of the history")
    ] = False,
) -> None:
    """Rebuild a lost store from Kafka, up to the last published vector; publishes nothing.

    Example: python -m stream_features rebuild --then-run
    """
    from runtime.feature_store.redis import RedisFeatureStore
    from runtime.feature_store.redis_server import ServerWatch
    from runtime.metrics import Metrics
    from schemas.dead_letters import SERVICE
    from stream_features.operate.rebuild import rebuild

    settings = load_settings()
    store = RedisFeatureStore.from_settings(settings)
    began = time.perf_counter()
    try:
        ServerWatch(store, Metrics(SERVICE)).check()
        with _progress() as bar:
            task = bar.add_task("rebuild", total=None)
            records = rebuild(
                settings,
                store,
                lambda done, total: bar.update(task, completed=done, total=total),
                incomplete=incomplete,
                warn=lambda text: say(text, "yellow"),
            )
    finally:
        store.close()
    say(f"{records:,} records replayed in {time.perf_counter() - began:.1f} s")
    if then_run:
        _serve(settings, from_start=False, stall_seconds=STALL_S)


@app.command("show")
def show_entity(
    card: Annotated[str | None, typer.Option(help="card id")] = None,
    merchant: Annotated[str | None, typer.Option(help="merchant id")] = None,
    device: Annotated[str | None, typer.Option(help="device id")] = None,
    ip: Annotated[
        str | None, typer.Option(help="IP address; an IPv6 address selects its /64 network")
    ] = None,
    json_path: Json = None,
) -> None:
    """Print the stored state of one card, merchant, device or IP address.

    The exit code is 1 if the store holds no such entity.

    Example: python -m stream_features show --card 4711
    """
    from runtime.feature_store.redis import RedisFeatureStore
    from stream_features.operate.show import read_state, readable

    wanted: dict[EntityKind, str | None] = {
        "card": card, "merchant": merchant, "device": device, "ip": ip,
    }  # fmt: skip
    given = [(kind, name) for kind, name in wanted.items() if name is not None]
    if len(given) != 1:
        raise ConfigurationError("give exactly one of --card, --merchant, --device and --ip")
    [(kind, name)] = given
    settings = load_settings()
    store = RedisFeatureStore.from_settings(settings)
    try:
        state = read_state(store, settings.key_prefix, kind, name, settings.label_delay.ms)
    except ValueError as error:
        raise ConfigurationError(f"--ip {name}: {error}") from error
    finally:
        store.close()
    if state is None:
        say(f"the store holds no state for {kind} {name}")
        sys.exit(1)
    if json_path is None:
        Console().print(readable(state, decimals(settings.base_currency)))
    write_report(state.report(), json_path)


@app.command("dump")
def dump_features(
    output: Annotated[Path, typer.Option(help="Parquet file to write")],
    json_path: Json = None,
) -> None:
    """Write the vectors on `features` to a file like that of `replay`, with source positions.

    The exit code is 1 if a source position has two different vectors.

    Example: python -m stream_features dump --output served.parquet --json -
    """
    from stream_features.operate.dump import dump

    settings = load_settings()
    with _progress() as bar:
        task = bar.add_task("dump", total=None)
        counts = dump(
            settings, output, lambda done, total: bar.update(task, completed=done, total=total)
        )
    say(f"{counts.rows:,} vectors ({counts.repeated:,} repeated) to {output}")
    write_report(counts.report(), json_path)
    if counts.conflicts:
        say(f"{counts.conflicts} positions have two different vectors: {counts.examples}", "red")
        sys.exit(1)


@app.command("size")
def size_of_store(
    redis: Annotated[str | None, typer.Option(help="Redis, instead of FRAUD_REDIS_URL")] = None,
    json_path: Json = None,
) -> None:
    """Measure how much memory each kind of entity takes in Redis.

    Example: python -m stream_features size --redis redis://localhost:6379/0 --json -
    """
    from runtime.feature_store.redis import RedisFeatureStore
    from stream_features.operate.store_size import store_size

    settings = load_settings(**({"redis_url": redis} if redis else {}))
    store = RedisFeatureStore.from_settings(settings)
    with _progress() as bar:
        task = bar.add_task("entities", total=None)
        report = store_size(store, lambda seen: bar.advance(task, seen))
    store.close()
    for kind, found in report.items():
        say(
            f"{kind}: {found['entities']:,} entities, mean {found['mean_bytes']} bytes, "
            f"largest {found['max_bytes']}; seen once: mean {found['once_mean_bytes']}; "
            f"{found['damaged']:,} damaged"
        )
    write_report(report, json_path)


@app.command("cycle")
def time_cycle(
    input_path: Annotated[
        Path, typer.Option("--input", help="Parquet or CSV file, in event order")
    ],
    mapping: Annotated[Path, typer.Option(help="YAML mapping of its columns")],
    redis: Annotated[str | None, typer.Option(help="Redis, instead of FRAUD_REDIS_URL")] = None,
    json_path: Json = None,
) -> None:
    """Time the stages of the batch cycle with engine and Redis, but without Kafka.

    The first part of the file fills the store, the rest is measured.

    Example: python -m stream_features cycle --input history.parquet
    --mapping loadtest/mappings/generator.yaml --redis redis://localhost:6379/0
    """
    from runtime.feature_store.redis import RedisFeatureStore
    from runtime.files.intake import read_for_command
    from runtime.settings import load_settings
    from stream_features.offline.transaction_table import table_columns
    from stream_features.operate.benchmark import STAGES, measure_cycle

    settings = load_settings(**({"redis_url": redis} if redis else {}))
    columns = table_columns(read_for_command(input_path, mapping, RejectOptions()).table)
    with _progress() as bar:
        task = bar.add_task("transactions", total=columns.rows)
        report, costs = measure_cycle(
            columns,
            lambda prefix: RedisFeatureStore.from_settings(settings, prefix),
            lambda rows: bar.advance(task, rows),
        )
    table = Table(title="median cycle; stages in µs per event")
    for heading in ("batch", "ms", "events/s", *STAGES):
        table.add_column(heading, justify="right")
    for found in report:
        stages = found["stages_us"].values()
        numbers = (found["batch"], found["cycle_ms"], f"{found['throughput_per_s']:,}", *stages)
        table.add_row(*map(str, numbers))
    errors.print(table)
    for kind, cost in costs.items():
        say(
            f"{kind}: to check a value of {cost['mean_bytes']:,} bytes takes {cost['check_ns']} ns "
            f"of the {cost['unpack_ns']} ns that it takes to unpack it"
        )
    write_report({"cycles": report, "values": costs}, json_path)


@app.command("compare")
def compare_features(
    left: Annotated[Path, typer.Argument(help="Parquet file of `dump` or `replay`")],
    right: Annotated[Path, typer.Argument(help="the file to compare it with")],
    json_path: Json = None,
) -> None:
    """Compare two files of features bit by bit; the exit code is 1 if they differ.

    Example: python -m stream_features compare served.parquet replayed.parquet
    """

    from stream_features.offline.compare import compare_files

    found = compare_files(left, right)
    say(
        f"{found.equal_rows:,} of {found.rows:,} rows are equal in every bit; "
        f"{found.only_left:,} are only in {left}, {found.only_right:,} only in {right}"
    )
    for name, rows in found.differing.items():
        say(f"  {name}: {rows:,} rows differ")
    write_report(asdict(found), json_path)
    if not found.equal:
        sys.exit(1)


@app.command("compile")
def compile_kernels() -> None:
    """Compile the kernels into the cache, so that services start fast.

    Example: python -m stream_features compile
    """
    from schemas.columns import empty_columns
    from stream_features.engine.offline import OfflineEngine
    from stream_features.worker.warm_up import warm_up

    with errors.status("compiling the feature kernels (about a minute, once)"):
        columns = empty_columns(1)
        for ids in (columns.transaction, columns.card, columns.merchant):
            ids[:] = 1
        engine = OfflineEngine()
        engine.process(columns)
        engine.apply_labels(
            columns.card, columns.transaction, columns.time, columns.time == columns.time
        )
        warm_up(load_settings())


def main() -> None:
    """Run the command line; see `run_command` for errors and exit codes."""
    run_command(app)


if __name__ == "__main__":
    main()
