"""One way to serve an ASGI application: uvicorn's configuration, the socket, TLS and signals."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
import uvicorn

from runtime.metrics import Metrics
from runtime.process import StopSignal
from runtime.repeated_lines import RepeatedRecords
from runtime.settings import Settings
from runtime.web.connection import BoundedConnection
from runtime.web.connections import SPARE_HANDLES, ConnectionLimits, raise_file_limit
from runtime.web.forwarded import behind_proxies
from schemas.errors import ConfigurationError

log = structlog.get_logger(__name__)


def bind_to(host: str, port: int, variable: str) -> socket.socket:
    """Return a socket that holds the address; nobody is let in until the server listens.

    Raises:
        ConfigurationError: the address cannot be taken; `variable` names the setting of the port.
    """
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise ConfigurationError(
            f"{variable} {port} on {host}: {error.strerror or error}: is it in use?"
        ) from error
    return bound


def web_config(
    app: Any,
    settings: Settings,
    *,
    protocol: type[BoundedConnection],
    metrics: Metrics,
    keep_alive_s: int,
    stop_s: int,
    lifespan: bool,
) -> uvicorn.Config:
    """Return how uvicorn serves `app`: one worker, without a log line for each request.

    The limit on open files is raised for the connections that `settings` allow.

    Args:
        keep_alive_s: how long an idle connection is kept.
        stop_s: how long open requests may take once the process is asked to stop.
        lifespan: whether `app` wants to know of start and stop.

    Raises:
        ConfigurationError: of certificate and key of TLS, one is missing.
    """
    certificate, key, proxies = settings.tls_certificate, settings.tls_key, settings.trusted_proxies
    if (certificate is None) != (key is None):
        raise ConfigurationError("give both FRAUD_TLS_CERTIFICATE and FRAUD_TLS_KEY, or neither")
    limits = ConnectionLimits(
        min(settings.connections, max(raise_file_limit() - SPARE_HANDLES, 1)),
        settings.connections_by_address,
        proxies,
        metrics,
    )
    uvicorns = logging.getLogger("uvicorn.error")
    if not any(isinstance(each, RepeatedRecords) for each in uvicorns.filters):
        uvicorns.addFilter(RepeatedRecords())
    return uvicorn.Config(
        behind_proxies(app, proxies) if proxies else app,
        http=type(protocol.__name__, (protocol,), {"limits": limits}),
        loop="uvloop",
        ws="none",
        interface="asgi3",
        lifespan="on" if lifespan else "off",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=keep_alive_s,
        timeout_graceful_shutdown=stop_s,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )


def warn_of_plain_http(host: str, settings: Settings) -> None:
    """Log that others on the way can read and change everything, unless TLS or a proxy is set."""
    if settings.tls_certificate is None and not ipaddress.ip_address(host).is_loopback:
        log.warning(
            "plain HTTP on an address that is not the loopback: keys, passwords and cookies can be "
            "read on the way; set FRAUD_TLS_CERTIFICATE and FRAUD_TLS_KEY, or listen on 127.0.0.1 "
            "behind a proxy that ends TLS",
            host=host,
            trusted_proxies=settings.trusted_proxies or None,
        )


class WebServer(uvicorn.Server):
    """A server that hands signals on: uvicorn alone would end the process by the signal again.

    SIGTERM and SIGINT set `stop`, and a `stop` that was set before ends the server at once.
    """

    def __init__(self, config: uvicorn.Config, stop: StopSignal) -> None:
        super().__init__(config)
        self._stop = stop

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Listen to signals on the event loop while the server runs."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        self.should_exit = self.should_exit or bool(self._stop)
        yield

    def _signalled(self, number: int) -> None:
        self._stop.set()
        self.handle_exit(number, None)
