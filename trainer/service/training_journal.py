"""The training service's memory: which run is under way and which requests are answered.

Kept as `service.json` in the folder of runs, whole or not at all.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from schemas.errors import ConfigurationError

FILE: Final = "service.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Current:
    """A run that is not recorded yet.

    It answers everything that came up to `answers_until` (ms). `attempts` counts its starts,
    `broken_off` those that ended with the service; `under_way` is whether it is started now.
    """

    run_id: str
    reasons: tuple[str, ...]
    started_at: int
    answers_until: int
    attempts: int = 0
    broken_off: int = 0
    under_way: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJournal:
    """Requests and due times up to `answered_until` (ms) are answered by a run that is recorded.

    `since` is when the service first started: due times before are not made up for.
    """

    since: int
    answered_until: int = 0
    current: Current | None = None


def save(journal: TrainingJournal, state_dir: Path) -> None:
    """Write the journal, to the disk itself.

    Raises:
        ConfigurationError: it cannot be written.
    """
    path = state_dir / FILE
    partial = path.with_name(f".{FILE}.partial")
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        with partial.open("w") as file:
            file.write(json.dumps(asdict(journal)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write {path}: {error}: free the disk or give another --state"
        ) from error


def load(state_dir: Path) -> TrainingJournal | None:
    """Read the journal; None if there is none yet.

    Raises:
        ConfigurationError: it cannot be read.
    """
    path = state_dir / FILE
    try:
        document = json.loads(path.read_text())
        current = document.pop("current")
        if current is not None:
            current = Current(**{**current, "reasons": tuple(current["reasons"])})
        return TrainingJournal(current=current, **document)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"{path} is not a journal of the training service: {error}; without the file it starts "
            "anew, and answers requests that it has not committed"
        ) from error
