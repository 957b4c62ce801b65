"""`python -m devstack up|down|status`: a local Kafka, Redis and MLflow to develop against."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from devstack.fetch.charts import UPLOT_ENDPOINT, fetch_charts
from devstack.fetch.java import KAFKA_ENDPOINT, java_command, kafka_class_path
from devstack.fetch.pin import pin as pin_jars
from devstack.kernels import ROOT, remove_stale_kernels
from devstack.sbom import write_sbom
from devstack.servers.redis import server_command
from devstack.stack import Stack, running
from runtime.command_line import run_command, say

app = typer.Typer(no_args_is_help=True, help=__doc__, add_completion=False)
_out = Console(highlight=False, soft_wrap=True)
_STOP_S = 45.0

Data = Annotated[Path, typer.Option("--data", help="Directory for data and logs.")]
_DEFAULT = Path("var/stack")


@app.command()
def up(
    data: Data = _DEFAULT,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of each topic.")] = 4,
    mlflow: Annotated[bool, typer.Option("--mlflow", help="Start an MLflow server too.")] = False,
) -> None:
    """Start the servers and keep them running until Ctrl-C.

    Example: python -m devstack up --data var/stack --mlflow
    """
    ended = threading.Event()
    stack = Stack(data, partitions, mlflow=mlflow)
    try:
        # A SIGTERM during start-up must stop the children too, so it raises as Ctrl-C does.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with stack:
            for key, value in stack.environment().items():
                _out.print(f"export {key}={value}")
            say(f"ready: logs are in {stack.data_dir / 'logs'}, press Ctrl-C to stop")
            ended.wait()
    except KeyboardInterrupt:
        say("stopped")


@app.command()
def fetch() -> None:
    """Download everything that a start needs: Kafka's jars and the dashboard's chart library.

    Example: python -m devstack fetch
    """
    java_command()
    kafka_class_path()
    server_command()
    fetch_charts()


@app.command()
def pin() -> None:
    """Write devstack/fetch/jars.toml anew, after a version in devstack/fetch was raised.

    Example: python -m devstack pin
    """
    count = pin_jars({"kafka": KAFKA_ENDPOINT, "uplot": UPLOT_ENDPOINT})
    say(f"{count} jars are pinned: read what changed before you commit it")


@app.command()
def kernels() -> None:
    """Remove the compiled kernels that hold code which has since changed in another file.

    Whatever uses such a kernel next compiles it again. Tests do this by themselves before they run.

    Example: python -m devstack kernels
    """
    stale = remove_stale_kernels()
    for source in stale:
        say(f"{source.relative_to(ROOT)} will be compiled again")
    say(f"removed the kernels of {len(stale)} files")


@app.command()
def sbom(
    output: Annotated[Path, typer.Option("--output", help="The file to write (CycloneDX JSON).")],
) -> None:
    """List every locked Python package and jar with its hashes, as a bill of materials.

    Example: python -m devstack sbom --output var/sbom.cdx.json
    """
    say(f"{output} lists {write_sbom(output)} components")


@app.command()
def down(data: Data = _DEFAULT) -> None:
    """Stop the stack that `up` started.

    Example: python -m devstack down
    """
    found = running(data)
    if found is None:
        say(f"nothing is running in {data}")
        return
    if "pid" not in found:
        say(f"the stack in {data} is still starting or stopping: try again in a moment")
        raise typer.Exit(1)
    os.kill(int(found["pid"]), signal.SIGTERM)
    deadline = time.monotonic() + _STOP_S
    while running(data) is not None:
        if time.monotonic() > deadline:
            say(f"process {found['pid']} did not stop within {_STOP_S:.0f} s")
            raise typer.Exit(1)
        time.sleep(0.1)
    say("stopped")


@app.command()
def status(data: Data = _DEFAULT) -> None:
    """Print the addresses of the running stack; exits with 1 if nothing is running.

    Example: python -m devstack status
    """
    found = running(data)
    if found is None:
        say(f"nothing is running in {data}")
        raise typer.Exit(1)
    for key, value in found.items():
        _out.print(f"{key}={value}")


if __name__ == "__main__":
    run_command(app)
