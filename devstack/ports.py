"""Free TCP ports that stay free while a server restarts."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import Final

from schemas.errors import ConfigurationError

# Below the range that the kernel uses for outgoing connections, one of which could otherwise take
# the port while its server restarts.
_FIRST, _LAST = 20_000, 29_999
_ATTEMPTS = 200
_LOCKS: Final = Path(tempfile.gettempdir()) / f"fraud-scoring-ports-{os.getuid()}"
_taken: dict[int, int] = {}
"""Ports that this process has handed out, with the files that hold their locks."""


def is_free(port: int) -> bool:
    """Return whether a port of 127.0.0.1 can be bound."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free and that no process of ours has handed out.

    It belongs to this process until that ends, also while its server is stopped.

    Raises:
        ConfigurationError: none was found.
    """
    chance = random.SystemRandom()
    for _ in range(_ATTEMPTS):
        port = chance.randint(_FIRST, _LAST)
        if port not in _taken and _reserve(port):
            return port
    raise ConfigurationError(
        f"no free port on 127.0.0.1 between {_FIRST} and {_LAST}: stop a server"
    )


def _reserve(port: int) -> bool:
    """Lock a free port for as long as this process lives; return whether that was possible."""
    _LOCKS.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(_LOCKS / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return False
    if not is_free(port):
        os.close(lock)
        return False
    _taken[port] = lock
    return True
