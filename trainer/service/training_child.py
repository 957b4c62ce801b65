"""A training run in a process of its own, with limits of time and memory.

The child is a session of its own and dies with the service, however that ends. It has the lowest
priority and is what the kernel ends first when memory runs out, so that serving is not disturbed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import psutil

from runtime.clock import Clock
from runtime.parent import die_with_parent
from schemas.errors import ConfigurationError

MB: Final = 2**20
ONLY_IDLE: Final = 20
"""As niceness: run only when nothing else wants the processor."""
STOP_S: Final = 10.0
"""Time to leave nothing half written behind."""
_TAIL_BYTES: Final = 2_000
_FIRST_TO_GO: Final = b"1000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Longest time in ms and most resident memory in bytes, of the whole process group."""

    time_ms: int
    memory_bytes: int

    def exceeded(self, elapsed_ms: int, resident_bytes: int) -> str:
        """Return why the run is to be ended, "" if it is not.

        >>> Limits(time_ms=1000, memory_bytes=5 * MB).exceeded(999, 5 * MB)
        ''
        """
        if elapsed_ms >= self.time_ms:
            return (
                f"ended after {elapsed_ms / 1000:,.0f} s: FRAUD_TRAIN_TIME allows "
                f"{self.time_ms / 1000:,.0f} s"
            )
        if resident_bytes > self.memory_bytes:
            return (
                f"ended at {resident_bytes / MB:,.0f} MB: FRAUD_TRAIN_MEMORY_MB allows "
                f"{self.memory_bytes / MB:,.0f} MB"
            )
        return ""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: its exit code (negative: by a signal), and why in words unless by 0."""

    code: int
    reason: str = ""


class Runner(Protocol):
    """Runs one training at a time."""

    def start(self, run_id: str) -> None:
        """Start a run and return at once."""

    def poll(self) -> Ended | None:
        """Return how the run ended, None while it goes on; call it every second or so."""

    def stop(self) -> None:
        """End the run that is under way, if one is. Blocks for some seconds."""


class ChildRunner:
    """See `Runner`.

    Args:
        command: the command line of a run.
        log_file: where its output goes.
        nice: 0 to 19, or ONLY_IDLE.
    """

    def __init__(
        self,
        command: Callable[[str], Sequence[str]],
        log_file: Callable[[str], Path],
        limits: Limits,
        *,
        nice: int,
        clock: Clock,
    ) -> None:
        self._command, self._log_file, self._limits = command, log_file, limits
        self._nice, self._clock = nice, clock
        self._process: subprocess.Popen[bytes] | None = None
        self._log = Path(os.devnull)
        self._began = 0

    def start(self, run_id: str) -> None:
        """Start a run; raises ConfigurationError if its log cannot be written."""
        self._log = self._log_file(run_id)
        self._began = self._clock.now_ms()
        try:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    list(self._command(run_id)),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=_before_exec(self._nice),
                )
        except OSError as error:
            raise ConfigurationError(f"cannot start a training run: {error}") from error

    def poll(self) -> Ended | None:
        """Return how it ended, after ending it when it exceeds its limits."""
        if self._process is None:
            return None
        code = self._process.poll()
        if code is not None:
            self._process = None
            return Ended(code, "" if code == 0 else self._why(code))
        why = self._limits.exceeded(self._clock.now_ms() - self._began, _resident(self._process))
        if not why:
            return None
        self.stop(0.0)
        return Ended(-signal.SIGKILL, why)

    def stop(self, patience_s: float = STOP_S) -> None:
        """Interrupt, wait for `patience_s`, then kill the whole group."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    @property
    def pid(self) -> int | None:
        """Process that is under way."""
        return None if self._process is None else self._process.pid

    def _why(self, code: int) -> str:
        with contextlib.suppress(OSError):
            tail = self._log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()
            if code > 0 and "error: " in tail:
                return tail[tail.rindex("error: ") + len("error: ") :]
        how = f"by signal {-code}" if code < 0 else f"with code {code}"
        return f"ended {how}; its output is in {self._log}"


def _before_exec(nice: int) -> Callable[[], None]:
    follow = die_with_parent()

    def before_exec() -> None:
        if follow is not None:
            follow()
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored, if a background job started us
        if nice == ONLY_IDLE and hasattr(os, "SCHED_IDLE"):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        else:
            os.nice(min(nice, 19))
        with contextlib.suppress(OSError):
            file = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
            os.write(file, _FIRST_TO_GO)
            os.close(file)

    return before_exec


def _resident(process: subprocess.Popen[bytes]) -> int:
    """Return the resident memory in bytes of a process and its children."""
    total = 0
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(process.pid)
        for each in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += each.memory_info().rss
    return total
