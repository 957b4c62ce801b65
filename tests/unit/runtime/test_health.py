"""The health server: what it answers, and that a client that goes away is not a line in the log."""

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
from tests.support.waiting import PATIENCE_S, until


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


def test_a_head_is_answered_like_a_get_without_its_body() -> None:
    with HealthServer(0, Metrics("store"), lambda: "waits") as server:
        for path, status in (("/healthz", b"200"), ("/readyz", b"503"), ("/nowhere", b"404")):
            with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as client:
                client.sendall(f"HEAD {path} HTTP/1.0\r\n\r\n".encode())
                answer = b"".join(iter(lambda: client.recv(4_096), b""))
            assert answer.split()[1] == status
            assert answer.endswith(b"\r\n\r\n")


def test_so_many_clients_at_most_have_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "MAX_CONNECTIONS", 3)
    with HealthServer(0, Metrics("store"), lambda: "") as server:
        address = ("127.0.0.1", server.port)
        idle = [socket.create_connection(address, PATIENCE_S) for _ in range(3)]
        with socket.create_connection(address, PATIENCE_S) as one_too_many:
            assert one_too_many.recv(1) == b""
        for each in idle:
            each.close()

        def served() -> bool:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{server.port}/readyz", timeout=PATIENCE_S)
            except OSError:
                return False
            return True

        until(served, "a place is free again")
