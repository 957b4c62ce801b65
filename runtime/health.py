"""A small HTTP server on a thread: /healthz (alive), /readyz (serving), /metrics."""

from __future__ import annotations

import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final, Self

import structlog

from runtime.metrics import Metrics
from schemas.errors import ConfigurationError

log = structlog.get_logger(__name__)
SLOW_S: Final = 10.0
"""Who takes longer to ask or to read is hung up on."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say in the log what went wrong; that somebody would not wait is no news."""
        gone = isinstance(sys.exception(), ConnectionError | TimeoutError)
        tell = log.debug if gone else log.error
        tell("not answered", client=str(client_address), exc_info=True)


class HealthServer:
    """Context manager; answers until left.

    Args:
        port: 0 takes any free one, see `port`.
        ready: returns "" when serving, else the reason why not; called on the server's thread.
        alive: likewise, for a process that must be restarted.
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
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Probes are not worth a line."""

        try:
            self._server = _Server((host, port), Handler)
        except OSError as error:
            raise ConfigurationError(f"FRAUD_HEALTH_PORT {port} on {host}: {error}") from error
        self._thread = Thread(target=self._server.serve_forever, name="health", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
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
