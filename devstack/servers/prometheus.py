"""Prometheus as a child process, and its command-line tool promtool."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from devstack.child import Child
from devstack.fetch.debian import unpack
from devstack.servers.server import Server
from schemas.errors import TemporaryError

_PROGRAMS: Final = ("prometheus", "promtool")
_ANSWER_S: Final = 30.0


def program(name: str) -> str:
    """Return the path of `prometheus` or `promtool`; downloads Debian's (19 MB) if not installed.

    Raises:
        ConfigurationError: it is not installed and cannot be downloaded.
    """
    found = shutil.which(name)
    if found is not None:
        return found
    paths = [f"usr/bin/{each}" for each in _PROGRAMS]
    return str(unpack("prometheus", paths) / "usr/bin" / name)


def promtool(
    *arguments: str, text: str | None = None, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run promtool with `text` on its standard input, and return its exit code and output."""
    return subprocess.run(
        [program("promtool"), *arguments], input=text, capture_output=True, text=True, cwd=folder
    )


class Prometheus(Server):
    """Prometheus that scrapes ports of 127.0.0.1; see `Server`.

    Args:
        jobs: ports to scrape, by job name.
        rules: files with alert rules.
        interval: time between scrapes and between evaluations, for example "500ms".
    """

    name = "Prometheus"
    ready_s = 60.0

    def __init__(
        self,
        data_dir: Path,
        jobs: Mapping[str, Sequence[int]],
        rules: Sequence[Path],
        interval: str,
    ) -> None:
        super().__init__()
        self._dir, self._config = data_dir, data_dir / "prometheus.yml"
        self._rules, self._interval = rules, interval
        self._jobs = jobs

    @property
    def url(self) -> str:
        """URL of the web page and the API."""
        return f"http://127.0.0.1:{self._port}"

    def watch(self, jobs: Mapping[str, Sequence[int]]) -> None:
        """Replace the ports to scrape; takes effect within moments. The server must be running."""
        self._jobs = jobs
        self._configure()
        os.kill(self.pid, signal.SIGHUP)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an instant query, each with `metric` (labels) and `value`."""
        result: list[dict[str, Any]] = self._data("query", query=expression)["result"]
        return result

    def firing(self) -> list[dict[str, str]]:
        """Return the labels of the alerts that are firing."""
        alerts = self._data("alerts")["alerts"]
        return [each["labels"] for each in alerts if each["state"] == "firing"]

    def _prepare(self) -> Child:
        self._dir.mkdir(parents=True, exist_ok=True)
        self._configure()
        return Child(
            self.name,
            [
                program("prometheus"),
                f"--config.file={self._config}",
                f"--storage.tsdb.path={self._dir / 'data'}",
                f"--web.listen-address=127.0.0.1:{self._port}",
                "--query.lookback-delta=1m",
            ],
            self._dir / "prometheus.log",
        )

    def _configure(self) -> None:
        wanted = _configuration(self._jobs, self._rules, self._interval)
        self._config.write_text(yaml.safe_dump(wanted))

    def _ready(self) -> bool:
        try:
            with urlopen(f"{self.url}/-/ready", timeout=_ANSWER_S) as answer:
                return bool(answer.status == 200)
        except (URLError, HTTPException, OSError):
            return False

    def _data(self, what: str, **parameters: str) -> Any:
        address = f"{self.url}/api/v1/{what}?{urlencode(parameters)}"
        try:
            with urlopen(address, timeout=_ANSWER_S) as answer:
                return json.load(answer)["data"]
        except (URLError, HTTPException, OSError) as error:
            raise TemporaryError(
                f"Prometheus does not answer {what} {parameters}: {error}"
            ) from error


def _configuration(
    jobs: Mapping[str, Sequence[int]], rules: Sequence[Path], interval: str
) -> dict[str, Any]:
    return {
        "global": {
            "scrape_interval": interval,
            "scrape_timeout": interval,
            "evaluation_interval": interval,
        },
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [
            {
                "job_name": job,
                "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}],
            }
            for job, ports in jobs.items()
        ],
    }
