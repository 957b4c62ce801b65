"""An MLflow tracking server on a SQLite file, as a child process.

MLflow's web application runs directly under uvicorn. MLflow's own launcher would load everything
twice and fork the server as a grandchild, which would survive a SIGKILL.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

from devstack.child import Child
from devstack.servers.server import Server
from schemas.errors import ConfigurationError

_PROBE: Final = "/api/2.0/mlflow/experiments/get?experiment_id=0"


class MlflowServer(Server):
    """MLflow; see `Server`."""

    name = "MLflow"
    ready_s = 180.0  # the first start runs every database migration

    def __init__(self, data_dir: Path, log_dir: Path) -> None:
        super().__init__()
        self._dir = data_dir.resolve()
        self._log_dir = log_dir

    @property
    def url(self) -> str:
        """URL for clients, to be used as MLFLOW_TRACKING_URI."""
        return f"http://127.0.0.1:{self._port}"

    def _ready(self) -> bool:
        """Return whether it answers a query of its database."""
        try:
            with urllib.request.urlopen(self.url + _PROBE, timeout=self.ready_s) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):  # not listening yet
            return False

    def _prepare(self) -> Child:
        if importlib.util.find_spec("mlflow") is None:
            raise ConfigurationError("MLflow is not installed: install the trainer extra")
        self._dir.mkdir(parents=True, exist_ok=True)
        log = self._log_dir / "mlflow.log"
        return Child(self.name, self._command(), log, self._environment())

    def _command(self) -> list[str]:
        where = ["--host", "127.0.0.1", "--port", str(self._port), "--log-level", "warning"]
        return [sys.executable, "-m", "uvicorn", *where, "mlflow.server.fastapi_app:app"]

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{self._dir / 'mlflow.db'}",
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(self._dir / "artefacts"),
            "_MLFLOW_SGI_NAME": "uvicorn",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
