"""Runs `python -m monitor report` in a separate process after the end of each day."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import structlog

from runtime.clock import Clock
from schemas.errors import ConfigurationError
from schemas.features import DAY

log = structlog.get_logger(__name__)


class DailyReport:
    """Writes one HTML report per UTC day to a folder, or nothing without a folder.

    Raises:
        ConfigurationError: the folder does not exist.
    """

    def __init__(self, folder: Path | None, clock: Clock) -> None:
        if folder is not None and not folder.is_dir():
            raise ConfigurationError(f"FRAUD_REPORT_FOLDER {folder} is not a folder: create it")
        self._folder, self._clock = folder, clock
        self._day = clock.now_ms() // DAY
        self._child: subprocess.Popen[bytes] | None = None

    def step(self) -> None:
        """Start the report if a day has ended, and log the exit code of the last. Does not wait."""
        if self._folder is None:
            return
        if self._child is not None and (code := self._child.poll()) is not None:
            log.info("daily report", exit_code=code)
            self._child = None
        day = self._clock.now_ms() // DAY
        if day == self._day or self._child is not None:
            return
        start, end = (datetime.fromtimestamp(each * DAY / 1e3, UTC) for each in (self._day, day))
        self._day = day
        output = self._folder / f"{start:%Y-%m-%d}.html"
        self._child = subprocess.Popen(
            [sys.executable, "-m", "monitor", "report", "--output", str(output),
             "--from", start.isoformat(), "--to", end.isoformat()]
        )  # fmt: skip
