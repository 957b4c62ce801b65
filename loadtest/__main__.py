"""`python -m loadtest`: load tests and proofs; loadtest/README.md describes the reports."""

from __future__ import annotations

import signal

import typer

from loadtest.commands.demo import demo
from loadtest.commands.gateway import frameworks, gateway_load
from loadtest.commands.generate import compile_kernels, generate
from loadtest.commands.measure import limit, maximum, run
from loadtest.commands.prove import live_page, verify
from runtime.command_line import run_command

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
app.command("generate")(generate)
app.command("run")(run)
app.command("max")(maximum)
app.command("limit")(limit)
app.command("gateway")(gateway_load)
app.command("frameworks")(frameworks)
app.command("verify")(verify)
app.command("demo")(demo)
app.command("page")(live_page)
app.command("compile")(compile_kernels)


def main() -> None:
    """Run the command line; see `run_command` for errors and exit codes."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run_command(_start)


def _start() -> None:
    from runtime.logs import configure_logging
    from runtime.settings import load_settings

    configure_logging(load_settings(), "loadtest")
    app()


if __name__ == "__main__":
    main()
