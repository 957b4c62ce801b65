"""What the commands that train have in common: the name of the bundle, and data by replay."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress

from schemas.errors import ConfigurationError
from schemas.runtime.command_line import errors

if TYPE_CHECKING:
    from trainer.dataset import Dataset


def free_name(model_id: str, output: Path) -> str:
    """Return the name; known now, not after minutes of training, that a bundle can have it.

    Raises:
        ConfigurationError: it is no plain name, or the bundle exists.
    """
    if Path(model_id).name != model_id or model_id in {".", ".."}:
        raise ConfigurationError(f"--model-id {model_id!r} must be a plain name, without slashes")
    if (output / model_id).exists():
        raise ConfigurationError(f"{output / model_id} exists: give another --output or --model-id")
    return model_id


def replayed(path: Path, mapping: Path, label_delay_ms: int) -> Dataset:
    """Read, map and replay a file with a progress bar; see `dataset.from_file`."""
    from trainer import dataset

    columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task("replay", total=None)
        return dataset.from_file(
            path,
            mapping,
            label_delay_ms=label_delay_ms,
            progress=lambda done: bar.advance(task, done),
        )
