"""One at a time: a lock that its process cannot leave behind, however it ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from schemas.errors import ConfigurationError, TrainerBusy

TRAINING: Final = "training.lock"
SERVICE: Final = "service.lock"


@contextmanager
def only_one(state_dir: Path, name: str) -> Iterator[None]:
    """Hold the lock `name` of a folder of runs while in the context.

    Raises:
        TrainerBusy: another process holds it; the text names it.
        ConfigurationError: the folder cannot be written.
    """
    path = state_dir / name
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error}: give another --state") from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(file, 32, 0).decode(errors="replace").strip() or "unknown"
            raise TrainerBusy(
                f"another trainer is at work: process {holder} holds {path}; try again when it "
                "has ended"
            ) from error
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(file)
