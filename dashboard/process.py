"""The process `python -m dashboard run`: the application behind uvicorn."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

import structlog
import uvicorn
from fastapi import FastAPI

from dashboard.app import create_app
from dashboard.live.collector import build_collector
from dashboard.parts import Parts
from dashboard.review.case_counts import CaseCounts
from dashboard.review.label_sender import label_sender
from dashboard.web.health import unready, watch
from dashboard.web.vendor import require_charts
from database.core.opening import open_database
from runtime.clock import SystemClock
from runtime.health import HealthServer
from runtime.kafka.model_registry import ModelRegistry, open_registry
from runtime.logs import configure_logging
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.web.header_timeout import HeaderTimeoutProtocol
from schemas.errors import BrokerUnavailable, ConfigurationError

log = structlog.get_logger(__name__)
SERVICE = "dashboard"
GOODBYE_S = 3
"""How long open requests may go on after SIGTERM; event streams never end by themselves."""

PATIENCE_S = 5.0
"""How long a page waits for Kafka to answer at first."""


class LentRegistry:
    """The registry of models, opened when first asked for, lent to one thread at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._turn = settings, Lock()
        self._open = ExitStack()
        self._registry: ModelRegistry | None = None

    @contextmanager
    def __call__(self) -> Iterator[ModelRegistry]:
        """Lend it.

        Raises:
            BrokerUnavailable: Kafka does not answer, or another thread keeps it.
        """
        if not self._turn.acquire(timeout=PATIENCE_S):
            raise BrokerUnavailable("the registry of models is in use: try again")
        try:
            if self._registry is None:
                opened = open_registry(self._settings, timeout_s=PATIENCE_S)
                self._registry = self._open.enter_context(opened)
            yield self._registry
        finally:
            self._turn.release()

    def close(self) -> None:
        """Let go of Kafka."""
        self._open.close()


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. Call it in the main thread."""
    configure_logging(settings, SERVICE)
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        raise ConfigurationError("FRAUD_TLS_CERTIFICATE and FRAUD_TLS_KEY belong together")
    require_charts()
    clock = SystemClock()
    collector = build_collector(settings, clock)
    with ExitStack() as opened:
        database = opened.enter_context(open_database(settings))
        registry = LentRegistry(settings)
        opened.callback(registry.close)
        metrics = Metrics(SERVICE)
        counts = CaseCounts()
        labels = opened.enter_context(label_sender(settings, database, clock, metrics, counts))
        parts = Parts(
            settings=settings,
            database=database,
            registry=registry,
            metrics=metrics,
            collector=collector,
            labels=labels,
            case_counts=counts,
            clock=clock,
        )
        if settings.health_port:
            opened.enter_context(
                HealthServer(
                    settings.health_port,
                    parts.metrics,
                    lambda: unready(parts) or labels.trouble,
                    host=settings.health_host,
                )
            )
        listening = opened.enter_context(_listen(settings))
        scheme = "https" if settings.tls_certificate else "http"
        host, port = listening.getsockname()[:2]
        log.info("serving", address=f"{scheme}://{host}:{port}")
        app = create_app(parts, services=[lambda: watch(parts), collector.running])
        asyncio.run(_serve(_Server(_configuration(app, settings)), listening))
    log.info("stopped")
    return 0


class _Server(uvicorn.Server):
    """A server that leaves signals to us: uvicorn would end the process by the signal again."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


async def _serve(server: uvicorn.Server, listening: socket.socket) -> None:
    await server.serve(sockets=[listening])


def _configuration(app: FastAPI, settings: Settings) -> uvicorn.Config:
    proxies = settings.trusted_proxies
    return uvicorn.Config(
        app,
        http=HeaderTimeoutProtocol,
        loop="uvloop",
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=GOODBYE_S,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
    )


def _listen(settings: Settings) -> socket.socket:
    host, port = settings.dashboard_host, settings.dashboard_port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigurationError(
            f"FRAUD_DASHBOARD_PORT {port} on {host}: {error.strerror}: is it in use?"
        ) from error
