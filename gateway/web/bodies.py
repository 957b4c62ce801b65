"""Request bodies, read under a limit of size and time."""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.web.problems import Problem
from gateway.web.reply import Receive, Scope, header

SLOW_S: Final = 10.0
"""Time for a whole body of one transaction, and for each next piece of a batch."""
_DIGITS: Final = 18
CLOSE: Final = {"Connection": "close"}


class Disconnected(Exception):
    """The client went away."""


class Piece:
    """A part of a body, and whether more follow."""

    __slots__ = ("data", "more")

    def __init__(self, data: bytes, more: bool) -> None:
        self.data, self.more = data, more


def too_large(most: int) -> Problem:
    """Return the problem of a body of more than `most` bytes."""
    return Problem("too-large", f"send at most {most} bytes", headers=CLOSE)


def refuse_large(scope: Scope, most: int) -> None:
    """Refuse a body that says that it is larger than `most` bytes.

    Raises:
        Problem: it is, or its Content-Length is no number.
    """
    length = header(scope, b"content-length")
    if length is None:
        return
    if not length.isdigit():
        raise Problem("bad-request", "Content-Length is not a number", headers=CLOSE)
    if len(length) > _DIGITS or int(length) > most:
        raise too_large(most)


async def read_body(scope: Scope, receive: Receive, most: int, slow_s: float) -> bytes:
    """Return the whole body.

    Raises:
        Problem: more than `most` bytes came, or not all of them within `slow_s`.
        Disconnected: the client went away.
    """
    refuse_large(scope, most)
    event = await next_piece(receive, slow_s)
    if not event.more:  # nearly always
        if len(event.data) > most:
            raise too_large(most)
        return event.data
    loop = asyncio.get_running_loop()
    deadline = loop.time() + slow_s
    parts, size = [event.data], len(event.data)
    while event.more:
        event = await next_piece(receive, deadline - loop.time())
        size += len(event.data)
        if size > most:
            raise too_large(most)
        parts.append(event.data)
    return b"".join(parts)


async def next_piece(receive: Receive, slow_s: float) -> Piece:
    """Return the next part of a body; raises as `read_body`, but for its size."""
    try:
        async with asyncio.timeout(max(slow_s, 0.0)):
            event = await receive()
    except TimeoutError:
        raise Problem("too-slow", "the body did not come in time", headers=CLOSE) from None
    if event["type"] == "http.disconnect":
        raise Disconnected
    return Piece(event.get("body", b""), event.get("more_body", False))
