"""One way to serve an ASGI application: uvicorn's configuration, the socket, TLS and signals."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from runtime.process import StopSignal
from runtime.settings import Settings
from runtime.web.header_timeout import HeaderTimeoutProtocol
from schemas.errors import ConfigurationError


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
    protocol: type[HeaderTimeoutProtocol],
    keep_alive_s: int,
    stop_s: int,
    lifespan: bool,
) -> uvicorn.Config:
    """Return how uvicorn serves `app`: one worker, without a log line for each request.

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
    return uvicorn.Config(
        app,
        http=protocol,
        loop="uvloop",
        ws="none",
        interface="asgi3",
        lifespan="on" if lifespan else "off",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
        timeout_keep_alive=keep_alive_s,
        timeout_graceful_shutdown=stop_s,
        ssl_certfile=certificate,
        ssl_keyfile=key,
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
