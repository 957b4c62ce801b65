"""Command line of the trainer: `python -m trainer`."""

from __future__ import annotations

import typer

from schemas.runtime.command_line import run_command
from trainer.commands.archive import archive
from trainer.commands.bootstrap import bootstrap
from trainer.commands.data_check import data_check
from trainer.commands.models import canary, models, promote, register, retire, rollback, shadow

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


@app.callback()
def trainer() -> None:
    """Train models and govern their stages."""


app.command()(archive)
app.command()(bootstrap)
app.command()(data_check)
for command in (models, register, shadow, canary, promote, rollback, retire):
    app.command()(command)


def main() -> None:
    """Run the command line; see run_command for errors and exit codes."""
    run_command(app)


if __name__ == "__main__":
    main()
