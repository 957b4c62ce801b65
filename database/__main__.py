"""Command line of the database: `python -m database`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from runtime.command_line import Json, errors, require_folder, run_command, say, write_report

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


@app.callback()
def database() -> None:
    """Keep decisions, vectors and review cases in SQLite or PostgreSQL."""


@app.command("store")
def store_service(
    once: Annotated[
        bool,
        typer.Option("--once", help="Stop when everything that is on the topics now is stored."),
    ] = False,
    json_path: Json = None,
) -> None:
    """Store every decision and its vector in the database until stopped. Settings: FRAUD_*.

    Example: FRAUD_DATABASE_URL=sqlite:///var/fraud.db python -m database store

    Example: python -m database store --once --json -
    """
    from database.store.process import run
    from runtime.settings import load_settings

    require_folder(json=json_path)
    write_report(run(load_settings(), once=once), json_path)


@app.command("setup")
def setup() -> None:
    """Create or migrate the tables on PostgreSQL, and a role for each service with its rights.

    Run it as the owner of the tables, before the services of a new version. The passwords of the
    roles are read from POSTGRES_PASSWORD_STORE, POSTGRES_PASSWORD_GATEWAY and
    POSTGRES_PASSWORD_DASHBOARD.

    Example: FRAUD_DATABASE_URL=postgresql+psycopg://fraud@host/fraud python -m database setup
    """
    from database.core.opening import open_database
    from database.core.rights import RIGHTS, create_roles, role_of
    from runtime.settings import load_settings

    passwords = {
        service: os.environ.get(f"POSTGRES_PASSWORD_{service.upper()}", "") for service in RIGHTS
    }
    with open_database(load_settings()) as opened:
        create_roles(opened, passwords)
        say(f"{opened.name} has its tables and the roles {', '.join(map(role_of, RIGHTS))}")


@app.command("compile")
def compile_kernels() -> None:
    """Compile the store's decoders into the cache.

    Example: python -m database compile
    """
    from database.store.rows import decision_rows, vector_rows

    with errors.status("compiling the decoders (seconds, once)"):
        vector_rows([])
        decision_rows([])


@app.command("bench")
def bench_store(
    rows: Annotated[
        int, typer.Option(min=1, help="number of decisions, each with its vector")
    ] = 100_000,
    database: Annotated[
        str | None,
        typer.Option(help="an empty database to fill; by default SQLite in a temporary folder"),
    ] = None,
    json_path: Json = None,
) -> None:
    """Measure the store's throughput on one thread, without Kafka.

    Example: python -m database bench --rows 100000 --json -
    """
    from database.store.benchmark import measure

    require_folder(json=json_path)
    with errors.status("measuring"):
        report = measure(rows, database)
    say(
        f"{report['database']}: {report['decisions_per_second']:,.0f} decisions/s with their "
        f"vectors, {report['cpu_us_per_decision']:.0f} µs of CPU each"
    )
    write_report(report, json_path)


def main() -> None:
    """Run the command line; see run_command for errors and exit codes."""
    run_command(app)


if __name__ == "__main__":
    main()
