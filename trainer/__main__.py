"""Command line of the trainer: `python -m trainer`."""

from __future__ import annotations

import typer

from schemas.runtime.command_line import TEMPORARY_FAILURE, run_command
from trainer.commands.bootstrap import bootstrap
from trainer.commands.publish import publish
from trainer.commands.train import train
from trainer.commands.upload import upload

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


@app.callback()
def trainer() -> None:
    """Train models from history."""


app.command()(bootstrap)
app.command()(publish)
app.command()(train)
app.command()(upload)


def main() -> None:
    """Run the command line; see run_command for errors and exit codes."""
    run_command(app, temporary=TEMPORARY_FAILURE)


if __name__ == "__main__":
    main()
