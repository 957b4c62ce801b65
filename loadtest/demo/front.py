"""Gateway, decision store, monitor and dashboard as processes of the demo.

Only their command lines, ports and metrics are known here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from devstack.ports import free_port, is_free
from devstack.service_process import Service
from loadtest.deploy.deployment import Deployment, Processes
from schemas.errors import FatalError

COMMANDS: Final = {
    "store": ("database", "store"),
    "gateway": ("gateway", "run"),
    "monitor": ("monitor", "run"),
    "dashboard": ("dashboard", "run"),
}
GATEWAY_PORT: Final = 8000
DASHBOARD_PORT: Final = 8050
ADMIN: Final = "admin"
POLICY: Final = Path(__file__).parents[2] / "docs" / "policy.example.json"
COMMAND_S: Final = 120.0


class Front(Processes):
    """Gateway, decision store, monitor and dashboard.

    `scoring` has the health ports, by name, of further processes that the dashboard watches.
    """

    def __init__(self, place: Deployment, directory: Path, scoring: Mapping[str, int]) -> None:
        super().__init__()
        self._directory = directory
        self.api_port = GATEWAY_PORT if is_free(GATEWAY_PORT) else free_port()
        self.dashboard_port = DASHBOARD_PORT if is_free(DASHBOARD_PORT) else free_port()
        self._env = {
            **place.env,
            "FRAUD_DATABASE_URL": f"sqlite:///{directory.resolve() / 'fraud.db'}",
            "FRAUD_API_PORT": str(self.api_port),
            "FRAUD_DASHBOARD_PORT": str(self.dashboard_port),
            "FRAUD_MONITOR_CLOCK": "event",
        }
        targets = dict(scoring)
        for name, (package, command) in COMMANDS.items():
            env = {**self._env, "FRAUD_WORKER_ID": f"{name}-1"}
            if name == "dashboard":
                addresses = {each: f"http://127.0.0.1:{port}" for each, port in targets.items()}
                env["FRAUD_DASHBOARD_TARGETS"] = json.dumps(addresses)
            service = Service(f"{name}-1", ["-m", package, command], env=env, log_dir=place.log_dir)
            self._services[service.name] = service
            targets[service.name] = service.health_port
        self.password = self.api_key = ""

    def prepare(self) -> None:
        """Publish the example policy, and create an administrator and an API key; takes seconds.

        Raises:
            FatalError: a command failed; the text ends with its output.
        """
        self._run("scorer", "policy", "publish", str(POLICY), "--actor", "demo")
        self.password = self._made_admin()["one_time_password"]
        self.api_key = self._run("gateway", "keys", "create", "demo").strip()

    def invitation(self) -> str:
        """Return the addresses, the log-in and the API key, to be shown to the user."""
        return (
            f"dashboard: http://127.0.0.1:{self.dashboard_port}/   "
            f"user {ADMIN}, one-time password {self.password} (for three days)\n"
            f"gateway:   http://127.0.0.1:{self.api_port}/   key {self.api_key}"
        )

    def _made_admin(self) -> dict[str, Any]:
        path = self._directory / "admin.json"
        path.touch(mode=0o600)  # it will hold a secret for a moment
        try:
            self._run("dashboard", "people", "add", ADMIN, "--role", "admin", "--json", str(path))
            made: dict[str, Any] = json.loads(path.read_text())
        finally:
            path.unlink()
        return made

    def _run(self, *arguments: str) -> str:
        """Run one of our commands and return its standard output."""
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            env={**os.environ, **self._env},
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
        )
        if done.returncode != 0:
            raise FatalError(f"{' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
        return done.stdout
