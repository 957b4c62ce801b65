"""Runs the gateway as a process on a deployment, with an API key for the load."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from devstack.ports import free_port
from devstack.service_process import Service
from loadtest.deploy.deployment import READY_S, Deployment
from schemas.errors import FatalError

RATE: Final = "1000000"
"""Transactions a second that the key may send; high enough never to limit a measurement."""


class GatewayProcess:
    """Context manager that runs one gateway, which accepts `key` on `port`."""

    def __init__(self, place: Deployment, name: str = "gateway-1") -> None:
        self.port = free_port()
        database = Path(place.log_dir).resolve() / "gateway.db"
        self._env: Mapping[str, str] = {
            **place.env,
            "FRAUD_DATABASE_URL": f"sqlite:///{database}",
            "FRAUD_API_PORT": str(self.port),
            "FRAUD_API_RATE": RATE,
            "FRAUD_API_RATE_KB": RATE,
            "FRAUD_API_RATE_MS": RATE,
        }
        self.service = Service(name, ["-m", "gateway", "run"], env=self._env, log_dir=place.log_dir)
        self.key = ""

    def _make_key(self) -> str:
        made = subprocess.run(
            [sys.executable, "-m", "gateway", "keys", "create", "loadtest"],
            env={**os.environ, **self._env},
            capture_output=True,
            text=True,
            timeout=READY_S,
        )
        if made.returncode != 0:
            raise FatalError(f"the API key could not be created:\n{made.stderr[-2000:]}")
        return made.stdout.strip()

    def __enter__(self) -> Self:
        """Create a key, start the gateway, and wait until it is ready."""
        self.key = self._make_key()
        self.service.start()
        try:
            self.service.wait_ready(READY_S)
        except BaseException:
            self.service.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the gateway."""
        self.service.stop()
