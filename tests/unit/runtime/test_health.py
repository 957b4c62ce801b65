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
from tests.support.waiting import PATIENCE_S


def test_a_client_that_does_not_wait_leaves_no_traceback(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, gone, noted = threading.Event(), threading.Event(), threading.Event()
    monkeypatch.setattr(health.log, "debug", lambda *text, **more: noted.set())

    def ready() -> str:
        asked.set()
        gone.wait(PATIENCE_S)
        return "x" * 1_000_000

    with HealthServer(0, Metrics("store"), ready) as server:
        client = socket.create_connection(("127.0.0.1", server.port))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        assert asked.wait(PATIENCE_S)
        client.close()  # with a reset: what is written to it fails
        gone.set()
        assert noted.wait(PATIENCE_S)
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/readyz", timeout=PATIENCE_S)
    out, err = capfd.readouterr()
    assert "Exception occurred" not in out + err


def test_alive_and_ready_are_asked_of_their_own() -> None:
    """A process that is not ready must not be restarted, and one that hangs must not serve."""
    said = {"ready": "waits for Kafka", "alive": ""}

    def status(path: str) -> tuple[int, str]:
        try:
            answer = urllib.request.urlopen(
                f"http://127.0.0.1:{server.port}{path}", timeout=PATIENCE_S
            )
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        with answer:
            return answer.status, answer.read().decode()

    metrics = Metrics("store")
    with HealthServer(0, metrics, lambda: said["ready"], lambda: said["alive"]) as server:
        assert status("/readyz") == (503, "waits for Kafka\n")
        assert status("/healthz") == (200, "ok\n")
        said.update(ready="", alive="its loop hangs")
        assert status("/readyz") == (200, "ok\n")
        assert status("/healthz") == (503, "its loop hangs\n")
        assert status("/metrics")[0] == 200
        assert status("/")[0] == 404


def test_a_client_that_asks_nothing_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert health.SLOW_S == 10.0
    monkeypatch.setattr(health, "SLOW_S", 0.05)
    with (
        HealthServer(0, Metrics("store"), lambda: "") as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as client,
    ):
        client.sendall(b"GET /rea")
        assert client.recv(1) == b""
