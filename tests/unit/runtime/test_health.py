"""The health server: what it answers, and that a client that goes away is no line in the log."""

from __future__ import annotations

import socket
import struct
import threading
import urllib.error
import urllib.request

import pytest

from runtime import health
from runtime.health import HealthServer
from runtime.metrics import Metrics

LONG_S = 10.0


def test_a_client_that_does_not_wait_leaves_no_traceback(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, gone, noted = threading.Event(), threading.Event(), threading.Event()
    monkeypatch.setattr(health.log, "debug", lambda *text, **more: noted.set())

    def ready() -> str:
        asked.set()
        gone.wait(LONG_S)
        return "x" * 1_000_000

    with HealthServer(0, Metrics("store"), ready) as server:
        client = socket.create_connection(("127.0.0.1", server.port))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        assert asked.wait(LONG_S)
        client.close()  # with a reset: what is written to it fails
        gone.set()
        assert noted.wait(LONG_S)
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/readyz", timeout=LONG_S)
    out, err = capfd.readouterr()
    assert "Exception occurred" not in out + err
