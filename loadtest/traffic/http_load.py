"""A cheap HTTP/1.1 client for load tests: kept connections, one request at a time on each."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, cast

import httptools


class Reply(NamedTuple):
    """A response, and when it was complete (ns, monotonic)."""

    status: int
    body: bytes
    at: int


def request(path: str, key: str, body: bytes, **headers: str) -> bytes:
    """Return the bytes of a POST; underscores in the names of `headers` become hyphens."""
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = (
        f"POST {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Length: {len(body)}\r\n{more}\r\n"
    )
    return head.encode() + body


class Connection(asyncio.Protocol):
    """One connection, to be opened with `connect`.

    `on_piece` is called with every part of a response's body as it arrives.
    """

    def __init__(self) -> None:
        self.on_piece: Callable[[bytes], None] = lambda piece: None
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._reply: asyncio.Future[Reply] | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def open(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, data: bytes) -> asyncio.Future[Reply]:
        """Send one whole request; raises ConnectionError if the server has closed the connection.

        The future fails with ConnectionError if the server closes before it has answered.
        """
        if self._transport is None or self._transport.is_closing():
            raise ConnectionError("the gateway closed the connection")
        self._reply = self._loop.create_future()
        self._transport.write(data)
        return self._reply

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass

    def data_received(self, data: bytes) -> None:
        """Pass the bytes on to the parser."""
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Keep a part of the response's body."""
        self._parts.append(body)
        self.on_piece(body)

    def on_message_complete(self) -> None:
        """Resolve the future with the response."""
        body, self._parts = b"".join(self._parts), []
        reply, self._reply = self._reply, None
        if reply is not None and not reply.done():
            reply.set_result(Reply(self._parser.get_status_code(), body, time.monotonic_ns()))

    def connection_lost(self, error: Exception | None) -> None:
        """Fail the future of a request that was not answered."""
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(ConnectionError("the gateway closed the connection"))
        self._transport = None


async def connect(port: int) -> Connection:
    """Open a connection to a gateway on this machine."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, "127.0.0.1", port)
    return connection


@contextmanager
def short_collections() -> Iterator[None]:
    """Keep garbage collections short: their pauses would look like a slow gateway."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
