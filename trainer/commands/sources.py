"""What the training commands share: the name of the bundle, and the source of the data.

Data are replayed from a file, or read from the archive, as known at a cut-off or as an earlier run
saw them.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress

from runtime.command_line import errors, say
from runtime.files.options import RejectOptions
from schemas.errors import ConfigurationError
from schemas.features import DAY

if TYPE_CHECKING:
    from runtime.settings import Settings
    from trainer.dataset.dataset import Dataset


_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
"""It becomes a directory, a URL and a filter of MLflow."""
SILENCE_MS: Final = 2 * DAY
"""Labels that stop for longer are an outage, not an absence of fraud."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What the options say; exactly one of `input_path`, `archive` and `as_of` is given.

    `archive` is a URL, "" for the settings'; `cutoff` and `since` are times as people write them.
    With `early` immature transactions that have a label are trained on, too.
    """

    input_path: Path | None = None
    mapping: Path | None = None
    archive: str | None = None
    cutoff: str | None = None
    since: str | None = None
    as_of: str | None = None
    early: bool = False
    label_delay_ms: int
    rejects: RejectOptions = field(default_factory=RejectOptions)

    def __post_init__(self) -> None:
        """Raise ConfigurationError unless the options name one source."""
        given = [self.input_path is not None, self.archive is not None, self.as_of is not None]
        if sum(given) != 1 or (self.input_path is None) != (self.mapping is None):
            raise ConfigurationError("give --input and --mapping, or --archive, or --as-of")
        if self.archive is None and (self.cutoff or self.since):
            raise ConfigurationError("--cutoff and --since go with --archive")


def free_name(model_id: str, output: Path) -> str:
    """Return the name if a bundle can have it: checked now, not after minutes of training.

    Raises:
        ConfigurationError: it is not a plain name, or the bundle exists.
    """
    if not _PLAIN_NAME.fullmatch(model_id):
        raise ConfigurationError(
            f"--model-id {model_id!r} must be a plain name of letters, digits, '.', '_' and '-' "
            "that starts with a letter or digit"
        )
    if (output / model_id).exists():
        raise ConfigurationError(f"{output / model_id} exists: give another --output or --model-id")
    return model_id


def dataset_of(source: Source, settings: Settings, state: Path) -> tuple[Dataset, dict[str, Any]]:
    """Return the data and what they are, for the record of the run; `state` is the folder of runs.

    Raises:
        ConfigurationError: nothing can be read there, or no longer the same as in the run.
        ArchiveUnavailable: the storage failed.
    """
    if source.input_path is not None and source.mapping is not None:
        data = replayed(source.input_path, source.mapping, source.label_delay_ms, source.rejects)
        return data, {
            "source": "replay",
            "input": str(source.input_path),
            "mapping": str(source.mapping),
            "label_delay_ms": source.label_delay_ms,
        }
    from trainer.archive.delta_tables import Archive
    from trainer.dataset.archived import from_archive

    arguments = _arguments(source, state)
    expected = arguments.pop("sha256", None)
    url = arguments.pop("archive", source.archive or None)
    with errors.status("reading the archive"):
        data, provenance = from_archive(Archive.from_settings(settings, url), **arguments)
    if expected is not None and provenance["sha256"] != expected:
        raise ConfigurationError(
            f"the data of {source.as_of} are no longer the same: SHA-256 {provenance['sha256']}, "
            f"the run had {expected}"
        )
    return data, {"source": "archive", **provenance}


def _arguments(source: Source, state: Path) -> dict[str, Any]:
    """Return the arguments of from_archive, with the archive's URL and hash of an earlier run."""
    if source.as_of is None:
        now = time.time_ns() // 1_000_000
        return {
            "cutoff_ms": now if source.cutoff is None else moment("--cutoff", source.cutoff),
            "since_ms": None if source.since is None else moment("--since", source.since),
            "maturity_ms": source.label_delay_ms,
            "early": source.early,
            "silence_ms": SILENCE_MS,
        }
    from trainer.training import run_records

    record = run_records.load(run_records.file_of(source.as_of, state))
    known = record.provenance
    if known.get("source") != "archive":
        raise ConfigurationError(f"--as-of {source.as_of} was not trained from an archive")
    if "versions" not in known:
        raise ConfigurationError(
            f"--as-of {source.as_of}: that run ended before it had data "
            f"({'; '.join(record.reasons)}); name one that had, or give --archive and --cutoff"
        )
    names = (
        "archive", "cutoff_ms", "since_ms", "maturity_ms", "early", "silence_ms", "versions",
        "sha256",
    )  # fmt: skip
    return {name: known[name] for name in names if name in known}


def replayed(path: Path, mapping: Path, label_delay_ms: int, rejects: RejectOptions) -> Dataset:
    """Read, map and replay a file with a progress bar, and say which rows were left out."""
    from runtime.files.intake import read_for_command
    from trainer.dataset.replayed import from_table, left_out

    table = read_for_command(path, mapping, rejects).table
    columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task("replay", total=table.num_rows)
        data = from_table(
            table,
            label_delay_ms=label_delay_ms,
            progress=lambda done: bar.advance(task, done),
        )
    if missing := left_out(table, data):
        say(missing, "yellow")
    return data


def moment(option: str, text: str) -> int:
    """Return ISO 8601 (UTC unless it says otherwise) or ms since the epoch as ms.

    Raises:
        ConfigurationError: it is neither.
    """
    try:
        if text.isdigit() and len(text) > 8:
            datetime.fromtimestamp(int(text) / 1000, UTC)  # a year that there is
            return int(text)
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigurationError(
            f"{option} {text!r}: write 2026-11-01 or 2026-11-01T12:00"
        ) from error
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return round(found.timestamp() * 1000)
