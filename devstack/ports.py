"""Free TCP ports that stay free while a server restarts."""

from __future__ import annotations

import random
import socket

from schemas.errors import ConfigurationError

# Below the range that the kernel uses for outgoing connections, one of which could otherwise take
# the port while its server restarts.
_FIRST, _LAST = 20_000, 29_999
_ATTEMPTS = 200
_taken: set[int] = set()


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
    """Return a port of 127.0.0.1 that is free and that this process has not handed out before."""
    chance = random.SystemRandom()
    for _ in range(_ATTEMPTS):
        port = chance.randint(_FIRST, _LAST)
        if port in _taken:
            continue
        if not is_free(port):
            continue
        _taken.add(port)
        return port
    raise ConfigurationError(
        f"no free port on 127.0.0.1 between {_FIRST} and {_LAST}: stop a server"
    )
