"""The online process's state between starts: one file of arrays and JSON, without pickle.

Learner, window, transactions that wait and the positions of the topics stand in one file, so a
start continues from the last save and learns every label once. Without a file, the topics are read
again from two label delays ago, as far as they reach.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from schemas.errors import ConfigurationError, TrainerBusy
from schemas.features import FINGERPRINT
from trainer.service.lock import only_one

FILE: Final = "state.npz"
FORMAT: Final = 2
"""Of the file. In the first one, transactions that wait were known by their id without the card."""


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Hold the folder for this process.

    Raises:
        ConfigurationError: another process has it, or it cannot be written.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(only_one(folder, "lock"))
        except TrainerBusy as error:
            raise ConfigurationError(
                f"another process learns in --state {folder}: two would publish everything twice"
            ) from error
        yield


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write the state, whole or not at all. `state["json"]` is JSON, the rest are arrays.

    Raises:
        ConfigurationError: it cannot be written; the previous state is still there.
    """
    document = {**state["json"], "format": FORMAT, "fingerprint": FINGERPRINT.hex()}
    arrays = {**state, "json": np.array(json.dumps(document))}
    partial = folder / f".{FILE}.partial"
    try:
        with partial.open("wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(folder / FILE)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ConfigurationError(f"cannot write {folder / FILE}: {error}") from error


def load(folder: Path) -> dict[str, Any] | None:
    """Return the saved state; None without one, or if it is of another format or catalogue.

    Raises:
        ConfigurationError: the file is damaged.
    """
    path = folder / FILE
    try:
        with np.load(path, allow_pickle=False) as stored:
            state: dict[str, Any] = {name: stored[name] for name in stored.files}
        document = json.loads(str(state["json"]))
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError, LookupError, zipfile.BadZipFile) as error:
        raise ConfigurationError(
            f"{path} is damaged ({error}): remove it, and learning begins anew"
        ) from error
    if document.get("format") != FORMAT or document.get("fingerprint") != FINGERPRINT.hex():
        return None
    return {**state, "json": document}
