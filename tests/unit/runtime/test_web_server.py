"""Serving an application: the address, TLS, and limits on bodies."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest

from runtime.metrics import Metrics
from runtime.settings import load_settings
from runtime.web.bodies import Disconnected, RefusedBody, read_body, refuse_large, replay
from runtime.web.connection import BoundedConnection
from runtime.web.server import bind_to, web_config
from schemas.errors import ConfigurationError


def test_an_address_that_is_taken_is_refused_by_setting_and_value() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"FRAUD_API_PORT {port} on 127.0.0.1: .*use"):
            bind_to("127.0.0.1", port, "FRAUD_API_PORT")


def test_half_of_a_tls_setting_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").touch()
    settings = load_settings(tls_certificate=tmp_path / "cert.pem")
    with pytest.raises(ConfigurationError, match="both FRAUD_TLS_CERTIFICATE and FRAUD_TLS_KEY"):
        web_config(
            None,
            settings,
            protocol=BoundedConnection,
            metrics=Metrics("gateway"),
            keep_alive_s=1,
            stop_s=1,
            lifespan=False,
        )


@pytest.mark.parametrize(
    ("length", "status"),
    [
        (b"11", 413),
        (b"9" * 30, 413),
        (b"ten", 400),
        (b"-1", 400),
        (b"10", 0),
        (b"0010", 0),
        (b"", 400),
    ],
)
def test_a_body_is_judged_by_its_length_before_it_is_read(length: bytes, status: int) -> None:
    if not status:
        refuse_large(length, 10)
        return
    with pytest.raises(RefusedBody) as refused:
        refuse_large(length, 10)
    assert refused.value.status == status


class Client:
    """Sends pieces of a body; after the last it is silent, or gone."""

    def __init__(self, *pieces: bytes, ends: bool = True, leaves: bool = False) -> None:
        self.pieces, self.ends, self.leaves = list(pieces), ends, leaves

    async def __call__(self) -> MutableMapping[str, Any]:
        if self.pieces:
            data = self.pieces.pop(0)
            more = bool(self.pieces) or not self.ends
            return {"type": "http.request", "body": data, "more_body": more}
        if self.leaves:
            return {"type": "http.disconnect"}
        await asyncio.Event().wait()
        raise AssertionError


def test_a_body_in_pieces_is_read_whole_and_can_be_read_again() -> None:
    async def read() -> tuple[bytes, MutableMapping[str, Any]]:
        client = Client(b"abc", b"", b"def")
        body = await read_body(client, max_bytes=6)
        return body, await replay(body, client)()

    body, event = asyncio.run(read())
    assert body == b"abcdef"
    assert event == {"type": "http.request", "body": b"abcdef", "more_body": False}


@pytest.mark.parametrize(
    ("client", "status"),
    [
        (Client(b"1234567"), 413),
        (Client(b"1234", b"567"), 413),
        (Client(b"12", ends=False), 408),
        (Client(ends=False), 408),
    ],
)
def test_a_body_that_is_too_long_or_too_slow_is_refused(client: Client, status: int) -> None:
    with pytest.raises(RefusedBody) as refused:
        asyncio.run(read_body(client, max_bytes=6, within_s=0.01))
    assert refused.value.status == status


def test_a_client_that_leaves_is_not_answered() -> None:
    with pytest.raises(Disconnected):
        asyncio.run(read_body(Client(b"12", ends=False, leaves=True), max_bytes=6, within_s=30.0))
