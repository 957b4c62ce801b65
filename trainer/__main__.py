"""Command line of the trainer: `python -m trainer`."""

from __future__ import annotations

import typer

from schemas.runtime.command_line import run_command
from trainer.commands.benchmark import benchmark
from trainer.commands.bootstrap import bootstrap
from trainer.commands.publish import publish

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


@app.callback()
def trainer() -> None:
    """Train models from history."""


app.command()(benchmark)
app.command()(bootstrap)
app.command()(publish)


def main() -> None:
    """Run the command line; see run_command for errors and exit codes."""
    run_command(app)


if __name__ == "__main__":
    main()
