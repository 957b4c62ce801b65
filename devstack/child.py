"""One child process that never outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from runtime.parent import die_with_parent
from schemas.errors import FatalError, TemporaryError

_LOG_TAIL_BYTES = 2000
_POLL_S = 0.05


class Child:
    """A process that writes to a log file and runs in its own session, out of reach of Ctrl-C.

    Args:
        account: user and group id to run as; by default those of the parent.
        stop_signal: the signal that makes the process shut down cleanly.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log_file: Path,
        env: Mapping[str, str] | None = None,
        *,
        account: tuple[int, int] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log_file = log_file
        self._env = dict(os.environ) if env is None else dict(env)
        self._account, self._stop_signal = account, stop_signal
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the latest start; raises FatalError before the first one."""
        if self._process is None:
            raise FatalError(f"{self.name} was never started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is alive now."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process and return at once; its output is appended to the log file.

        Raises:
            FatalError: it is already running.
        """
        if self.running:
            raise FatalError(f"{self.name} is already running as process {self.pid}")
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                start_new_session=True,
                user=self._account[0] if self._account else None,
                group=self._account[1] if self._account else None,
                extra_groups=[] if self._account else None,
                preexec_fn=die_with_parent(),
            )

    def wait_until(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Block until `ready()` returns true.

        Raises:
            FatalError: the process ended first.
            TemporaryError: it was not ready within `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            if self._process is None or self._process.poll() is not None:
                code = None if self._process is None else self._process.returncode
                raise FatalError(f"{self.name} ended with code {code}; {self.log_tail()}")
            if time.monotonic() > deadline:
                raise TemporaryError(
                    f"{self.name} was not ready within {timeout_s:.0f} s; {self.log_tail()}"
                )
            time.sleep(_POLL_S)

    def stop(self, timeout_s: float = 20.0) -> int:
        """Ask the process to stop, kill it after `timeout_s`, and return its exit code.

        Does nothing if it has ended or was never started, which counts as 0.
        """
        if self._process is None:
            return 0
        if self.running:
            self._process.send_signal(self._stop_signal)
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.returncode

    def kill(self) -> None:
        """Send SIGKILL and wait for the end; does nothing if the process has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def log_tail(self) -> str:
        """Return the path of the log and its last lines, for an error message."""
        try:
            tail = self.log_file.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")
        except OSError:
            tail = ""
        return f"log {self.log_file} ends with:\n{tail}"
