"""`python -m trainer run`: the training service."""

from __future__ import annotations

from pathlib import Path

import typer

from runtime.settings import load_settings
from schemas.errors import ConfigurationError
from trainer.commands.options import ArchiveUrl, BundleFolder, RunFolder
from trainer.commands.train import train

PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


def run(
    context: typer.Context,
    archive: ArchiveUrl = None,
    output: BundleFolder = Path("var/models"),
    state: RunFolder = Path("var/trainer"),
) -> None:
    """Train daily and on requests from the archive, and carry candidates on, until stopped.

    Options of `trainer train` can follow and are given to every run. --early is given anyway, and
    --most-false 0.0004 unless another one is. See docs/training.md.

    Example: python -m trainer run --search-seconds 600 --gates gates.yaml
    """
    from trainer.service import process

    options = checked(context.args)
    process.run(load_settings(), url=archive, state=state, output=output, options=options)


def checked(options: list[str]) -> list[str]:
    """Return options of `trainer train`, which a run at three in the morning is not to find wrong.

    Raises:
        ConfigurationError: one of them is for the service to give. Typer ends the command by 2 for
            one that `train` does not know.
    """
    probe = typer.Typer(add_completion=False)
    probe.command()(train)
    given = typer.main.get_command(probe).make_context("train", list(options))
    own = ("input_path", "as_of", "model_id", "run_id", "publish", "approval", "json_path")
    wrong = [name for name in own if given.params[name]]
    if wrong:
        raise ConfigurationError(
            f"the service itself says where data come from and what becomes of a model: leave out "
            f"{', '.join(wrong)} (FRAUD_APPROVAL is a setting)"
        )
    return options
