"""Steps that every browser test takes: an application behind a port, a person at its log-in."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlencode

import uvicorn
from playwright.sync_api import Page
from starlette.types import ASGIApp

from runtime.web.connection import BoundedConnection
from tests.support.dashboard.site import PASSWORD


@contextmanager
def served(app: ASGIApp, protocol: type[BoundedConnection] = BoundedConnection) -> Iterator[str]:
    """Serve an application from a thread; give its address."""
    configuration = uvicorn.Config(
        app, http=protocol, log_config=None, ws="none", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(configuration)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def log_in(
    page: Page, address: str, username: str, password: str = PASSWORD, *, to: str = "/"
) -> None:
    """Log in to the dashboard at `address` and go to the page `to`; raises if that fails."""
    page.goto(f"{address}/login?{urlencode({'next': to})}")
    if page.url.startswith(f"{address}/login"):  # else logged in before
        page.get_by_label("Username").fill(username)
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{address}{to}")
