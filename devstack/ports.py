"""Free TCP ports that stay ours across a restart."""

from __future__ import annotations

import random
import socket

from schemas.errors import ConfigurationError

# Below the range that kernels give to outgoing connections: one of those could otherwise take
# the port while its server is being restarted.
_FIRST, _LAST = 20_000, 29_999
_ATTEMPTS = 200
_taken: set[int] = set()


def is_free(port: int) -> bool:
    """Tell whether nobody listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on and this process never gave out."""
    chance = random.SystemRandom()
    for _ in range(_ATTEMPTS):
        port = chance.randint(_FIRST, _LAST)
        if port in _taken:
            continue
        if not is_free(port):
            continue
        _taken.add(port)
        return port
    raise ConfigurationError(f"no free port on 127.0.0.1 between {_FIRST} and {_LAST}: free some")
