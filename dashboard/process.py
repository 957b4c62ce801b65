"""The process `python -m dashboard run`."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from dashboard.app import create_app
from dashboard.live.collector import build_collector
from dashboard.models.lent_registry import LentRegistry
from dashboard.parts import Parts
from dashboard.review.case_counts import CaseCounts
from dashboard.review.label_sender import label_sender
from dashboard.web.health import unready, watch
from dashboard.web.vendor import require_charts
from database.core.opening import open_database
from runtime.process import ServiceProcess, StopSignal
from runtime.settings import Settings
from runtime.web.header_timeout import HeaderTimeoutProtocol
from schemas.errors import ConfigurationError

SERVICE = "dashboard"
GOODBYE_S = 3
"""How long open requests may go on after SIGTERM; event streams never end by themselves."""


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Call it in the main thread."""
    with ServiceProcess(SERVICE, settings) as process:
        if (settings.tls_certificate is None) != (settings.tls_key is None):
            raise ConfigurationError("FRAUD_TLS_CERTIFICATE and FRAUD_TLS_KEY belong together")
        require_charts()
        collector = build_collector(settings, process.clock)
        database = process.parts.enter_context(process.patiently(lambda: open_database(settings)))
        counts = CaseCounts()
        labels = process.parts.enter_context(
            label_sender(settings, database, process.clock, process.metrics, counts)
        )
        parts = Parts(
            settings=settings,
            database=database,
            registry=process.keep(LentRegistry(settings)),
            metrics=process.metrics,
            collector=collector,
            labels=labels,
            case_counts=counts,
            clock=process.clock,
        )
        listening = process.keep(_listen(settings))
        app = create_app(parts, services=[lambda: watch(parts), collector.running])
        scheme = "https" if settings.tls_certificate else "http"
        host, port = listening.getsockname()[:2]
        process.started(
            lambda: unready(parts) or labels.trouble, address=f"{scheme}://{host}:{port}"
        )
        asyncio.run(_serve(_Server(_configuration(app, settings), process.stop), listening))


class _Server(uvicorn.Server):
    """A server that leaves signals to us: uvicorn would end the process by the signal again."""

    def __init__(self, config: uvicorn.Config, stop: StopSignal) -> None:
        super().__init__(config)
        self._stop = stop

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        self.should_exit = self.should_exit or bool(self._stop)
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
