"""The record of a training run: kept as `runs/<run_id>/run.json`, however it ended."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, Self

import structlog

from schemas.errors import ConfigurationError

log = structlog.get_logger(__name__)
State = Literal["passed", "refused by gates", "refused by data check", "failed"]
RUN_FILE: Final = "run.json"
_ID: Final = re.compile(r"run-[A-Za-z0-9._-]{1,100}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run. Times are ms since the epoch; `reasons` says in words why it did not pass.

    `provenance` says what the data were, so that the same can be built again; `bundle` is the
    directory, with `sha256` of its manifest, when a model was written.
    """

    run_id: str
    model_id: str
    started_at: int
    finished_at: int
    state: State
    reasons: tuple[str, ...] = ()
    provenance: Mapping[str, Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    check: Mapping[str, Any] | None = None
    gates: Mapping[str, Any] | None = None
    champion_id: str | None = None
    bundle: str | None = None
    sha256: str | None = None
    stages: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the model may be registered."""
        return self.state == "passed"

    def at(self, stages: tuple[str, ...]) -> Self:
        """Return the record with the stages at which the model was put."""
        return replace(self, stages=stages)

    def document(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return asdict(self)


def checked_id(run_id: str) -> str:
    """Return a name that people gave to a run.

    Raises:
        ConfigurationError: it cannot be one.
    """
    if not _ID.fullmatch(run_id):
        raise ConfigurationError(
            f"--run-id {run_id!r}: write run- and letters, digits, dots, dashes, as run-2026-11-01"
        )
    return run_id


def failed(run_id: str, started_at: int, finished_at: int, reason: str, source: str) -> RunRecord:
    """Return the record of a run that ended before it had a model."""
    return RunRecord(
        run_id=run_id,
        model_id="",
        started_at=started_at,
        finished_at=finished_at,
        state="failed",
        reasons=(reason,),
        provenance={"source": source},
    )


def file_of(run_id: str, state_dir: Path) -> Path:
    """Return where the record of a run is kept."""
    return state_dir / "runs" / run_id / RUN_FILE


def save(record: RunRecord, state_dir: Path) -> Path:
    """Write the record, whole or not at all, and return its file.

    Raises:
        ConfigurationError: it cannot be written.
    """
    path = file_of(record.run_id, state_dir)
    put(path, record)
    return path


def put(path: Path, record: RunRecord) -> None:
    """Write the record to a file of any name; as `save`."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(record.document(), indent=1) + "\n")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ConfigurationError(
            f"cannot write the run to {path}: {error}: give another --state"
        ) from error


def last_passed(state_dir: Path) -> RunRecord | None:
    """Return the newest run that passed, None without one; other files are skipped."""
    found: RunRecord | None = None
    for path in (state_dir / "runs").glob(f"*/{RUN_FILE}"):
        try:
            record = load(path)
        except ConfigurationError as error:
            log.warning("not a run", reason=str(error))
            continue
        if record.passed and (found is None or record.finished_at > found.finished_at):
            found = record
    return found


def load(path: Path) -> RunRecord:
    """Read a record.

    Raises:
        ConfigurationError: it cannot be read, or is not a record.
    """
    try:
        document = json.loads(path.read_text())
        for name in ("reasons", "notes", "stages"):
            document[name] = tuple(document[name])
        return RunRecord(**document)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{path} is not the record of a run: {error}") from error
