"""One of our own services as a child process."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from devstack.child import Child
from devstack.ports import free_port


class Service:
    """`python ARGS` with a health port that stays the same across restarts."""

    def __init__(
        self, name: str, args: Sequence[str], *, env: Mapping[str, str], log_dir: Path
    ) -> None:
        self.name = name
        self.health_port = free_port()
        full = {**os.environ, **env, "FRAUD_HEALTH_PORT": str(self.health_port)}
        self._child = Child(name, [sys.executable, *args], log_dir / f"{name}.log", full)

    @property
    def pid(self) -> int:
        """Process id; raises FatalError before the first start."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the process is alive now."""
        return self._child.running

    def start(self) -> None:
        """Start the service and return at once."""
        self._child.start()

    def wait_ready(self, timeout_s: float = 240.0) -> None:
        """Block until /readyz answers 200; raises what `Child.wait_until` raises."""
        self._child.wait_until(self._ready, timeout_s)

    def stop(self, timeout_s: float = 20.0) -> int:
        """Send SIGTERM, kill the service after `timeout_s`, and return its exit code."""
        return self._child.stop(timeout_s)

    def kill(self) -> None:
        """Send SIGKILL, which leaves behind what a crash would."""
        self._child.kill()

    def _ready(self) -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{self.health_port}/readyz", timeout=1.0) as answer:
                return bool(answer.status == 200)
        except (URLError, HTTPException, OSError):
            return False
