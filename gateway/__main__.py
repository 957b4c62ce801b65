"""Command line of the gateway: `python -m gateway`."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.keys_command import app as keys_app
from runtime.command_line import run_command

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
app.add_typer(keys_app, name="keys")


@app.command("run")
def run_gateway(
    host: Annotated[str | None, typer.Option(help="overrides FRAUD_API_HOST")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="overrides FRAUD_API_PORT")
    ] = None,
) -> None:
    """Answer transactions over HTTP with the pipeline's decisions until stopped.

    Example: python -m gateway run --port 8000
    """
    from gateway.process import run
    from runtime.settings import load_settings

    given = {"api_host": host, "api_port": port}
    chosen = {name: value for name, value in given.items() if value is not None}
    run(load_settings(**chosen))


def main() -> None:
    """Run the command line; see run_command for errors and exit codes."""
    run_command(app)


if __name__ == "__main__":
    main()
