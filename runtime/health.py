"""A small HTTP server on a thread: /healthz (alive), /readyz (serving), /metrics."""

from __future__ import annotations

import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore, Thread
from typing import Any, Final, Self

import structlog

from runtime.metrics import Metrics
from schemas.errors import ConfigurationError

log = structlog.get_logger(__name__)
SLOW_S: Final = 10.0
"""Time that a client has to send its request and to read the answer."""
MAX_CONNECTIONS: Final = 64
"""Each connection takes a thread; further ones are closed at once."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._places = BoundedSemaphore(MAX_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer on a thread of its own, if there is a place for it."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and free the place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what went wrong; a client that went away is worth a debug line only."""
        gone = isinstance(sys.exception(), ConnectionError | TimeoutError)
        write = log.debug if gone else log.error
        write("not answered", client=str(client_address), exc_info=True)


class HealthServer:
    """A context manager that answers until it is left.

    Args:
        port: 0 takes any free one, see `port`.
        ready: returns "" while the process serves, else the reason; called on the server's thread.
        alive: returns the reason if the process must be restarted, else "".
    """

    def __init__(
        self,
        port: int,
        metrics: Metrics,
        ready: Callable[[], str],
        alive: Callable[[], str] = lambda: "",
        host: str = "127.0.0.1",
    ) -> None:
        checks = {"/healthz": alive, "/readyz": ready}

        class Handler(BaseHTTPRequestHandler):
            timeout = SLOW_S

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self._answer(200, metrics.exposition(), "text/plain; version=0.0.4")
                elif self.path in checks:
                    reason = checks[self.path]()
                    self._answer(503 if reason else 200, (reason or "ok").encode() + b"\n")
                else:
                    self._answer(404, b"try /healthz, /readyz or /metrics\n")

            def _answer(self, status: int, body: bytes, kind: str = "text/plain") -> None:
                self.send_response(status)
                self.send_header("Content-Type", f"{kind}; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Write nothing: probes come every few seconds."""

        try:
            self._server = _Server((host, port), Handler)
        except OSError as error:
            raise ConfigurationError(f"FRAUD_HEALTH_PORT {port} on {host}: {error}") from error
        self._thread = Thread(target=self._server.serve_forever, name="health", daemon=True)

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        """Start to answer."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
