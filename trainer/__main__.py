"""Command line of the trainer: `python -m trainer`."""

from __future__ import annotations

from typing import Final

import typer

from runtime.command_line import TEMPORARY_FAILURE, run_command
from trainer.commands.archive import archive
from trainer.commands.backtest import backtest
from trainer.commands.benchmark import benchmark
from trainer.commands.bootstrap import bootstrap
from trainer.commands.data_check import data_check
from trainer.commands.models import canary, models, promote, register, retire, rollback, shadow
from trainer.commands.online import online
from trainer.commands.run import PASSED_ON, run
from trainer.commands.sign import sign
from trainer.commands.train import train
from trainer.commands.upload import upload

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


@app.callback()
def trainer() -> None:
    """Train models and govern their stages."""


DATA: Final = (archive, data_check)
LEARNING: Final = (bootstrap, train, online, upload, backtest, benchmark)
STAGES: Final = (models, sign, register, shadow, canary, promote, rollback, retire)
for command in (*DATA, *LEARNING, *STAGES):
    app.command()(command)
app.command(context_settings=PASSED_ON)(run)


def main() -> None:
    """Run the command line; see run_command for errors and exit codes."""
    run_command(app, temporary=TEMPORARY_FAILURE)


if __name__ == "__main__":
    main()
