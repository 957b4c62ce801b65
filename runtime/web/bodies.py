"""Request bodies over ASGI, read under a limit of size and time.

Both web servers read through this module, so that neither can be held up by a client that sends too
much, too slowly, or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, NamedTuple

SLOW_S: Final = 10.0
"""Time for a whole body, or for each next piece of one that is read as a stream."""

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Disconnected(Exception):
    """The client went away."""


class RefusedBody(Exception):
    """A body that is not served; the connection should be closed after the answer.

    Attributes:
        status: 400, 408 or 413, for the answer.
        reason: a sentence for the client.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Piece(NamedTuple):
    """A part of a body, and whether more follow."""

    data: bytes
    more: bool


def too_large(max_bytes: int) -> RefusedBody:
    """Return the refusal of a body of more than `max_bytes`."""
    return RefusedBody(413, f"the body has more than {max_bytes} bytes")


def refuse_large(content_length: bytes | None, max_bytes: int) -> None:
    """Refuse a body by its Content-Length, before any of it is read.

    Raises:
        RefusedBody: it is longer than `max_bytes`, or the header is not a number.
    """
    if content_length is None:
        return
    if not content_length.isdigit():
        raise RefusedBody(400, "Content-Length is not a number")
    digits = content_length.lstrip(b"0")
    if len(digits) > len(str(max_bytes)) or int(digits or b"0") > max_bytes:
        raise too_large(max_bytes)


async def read_body(receive: Receive, *, max_bytes: int, within_s: float = SLOW_S) -> bytes:
    """Return the whole body.

    Raises:
        RefusedBody: it is longer than `max_bytes`, or did not come within `within_s`.
        Disconnected: the client went away.
    """
    piece = await next_piece(receive, within_s)
    if not piece.more:  # nearly always
        if len(piece.data) > max_bytes:
            raise too_large(max_bytes)
        return piece.data
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    body = bytearray(piece.data)
    while piece.more:
        piece = await next_piece(receive, deadline - loop.time(), within_s)
        body += piece.data
        if len(body) > max_bytes:
            raise too_large(max_bytes)
    return bytes(body)


async def next_piece(receive: Receive, left_s: float, within_s: float | None = None) -> Piece:
    """Return the next part of a body, waiting for `left_s` of the `within_s` that it has.

    Raises:
        RefusedBody: it did not come in time.
        Disconnected: the client went away.
    """
    try:
        async with asyncio.timeout(max(left_s, 0.0)):
            event = await receive()
    except TimeoutError:
        allowed = left_s if within_s is None else within_s
        raise RefusedBody(408, f"the body did not come within {allowed:g} s") from None
    if event["type"] == "http.disconnect":
        raise Disconnected
    return Piece(event.get("body", b""), event.get("more_body", False))


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body first and then goes on with `receive`."""
    given = False

    async def again() -> MutableMapping[str, Any]:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
