"""Request bodies over ASGI, read under a limit of size and time, and inflated if they are gzip.

Both web servers read through this module, so that neither can be held up by a client that sends too
much, too slowly, or not at all.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import Final, NamedTuple

from runtime.web.asgi import Event, Receive, Scope, header

SLOW_S: Final = 10.0
"""Time for a whole body, or for each next piece of one that is read as a stream."""
PIECE_BYTES: Final = 65_536
"""So much is inflated at a time."""
MAX_MEMBERS: Final = 100
"""A gzip body may consist of so many members; empty ones would cost time without end."""
_GZIP: Final = 16 + zlib.MAX_WBITS


class Disconnected(Exception):
    """The client went away."""


class RefusedBody(Exception):
    """A body that is not served; the connection should be closed after the answer.

    Attributes:
        status: 400, 408, 413 or 415, for the answer.
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


def open_body(scope: Scope, receive: Receive, max_bytes: int) -> Receive:
    """Return a `receive` that gives the body as its sender had it before Content-Encoding.

    It may raise RefusedBody: the body is not gzip, is cut short, or is larger than `max_bytes`.

    Raises:
        RefusedBody: the body has another encoding than gzip, or is too long by Content-Length.
    """
    refuse_large(header(scope, b"content-length"), max_bytes)
    named = (header(scope, b"content-encoding") or b"").split(b",")
    codings = [each.strip().lower() for each in named if each.strip()]
    if not codings or codings == [b"identity"]:
        return receive
    if codings not in ([b"gzip"], [b"x-gzip"]):
        shown = b", ".join(codings)[:50].decode("latin-1")
        raise RefusedBody(415, f"Content-Encoding {shown}: send gzip, or no encoding")
    return _GzipBody(receive, max_bytes)


class _GzipBody:
    """A `receive` that inflates, PIECE_BYTES at a time and never more than `max_bytes`."""

    def __init__(self, receive: Receive, max_bytes: int) -> None:
        self._receive, self._max_bytes = receive, max_bytes
        self._inflater, self._members = zlib.decompressobj(_GZIP), 1
        self._input, self._more = b"", True
        self._full = self._ended = False
        self._taken = self._given = 0

    async def __call__(self) -> Event:
        while not self._ended:
            if not self._input and not self._full and self._more:
                event = await self._receive()
                if event["type"] != "http.request":
                    return event
                self._input = event.get("body", b"")
                self._more = event.get("more_body", False)
                self._taken += len(self._input)
            else:
                await asyncio.sleep(0)  # a small body may have much in it
            data = self._inflate()
            self._given += len(data)
            if max(self._taken, self._given) > self._max_bytes:
                raise too_large(self._max_bytes)
            self._ended = not (self._more or self._input or self._full)
            if self._ended and not self._inflater.eof:
                raise RefusedBody(400, "the gzip body is cut short")
            if data or self._ended:
                return {"type": "http.request", "body": data, "more_body": not self._ended}
        return await self._receive()

    def _inflate(self) -> bytes:
        """Return the next piece; `_full` says that there is more of it without further input."""
        if self._inflater.eof and self._input:
            self._members += 1
            if self._members > MAX_MEMBERS:
                raise RefusedBody(400, f"the gzip body has more than {MAX_MEMBERS} members")
            self._inflater = zlib.decompressobj(_GZIP)
        try:
            data = self._inflater.decompress(self._input, PIECE_BYTES)
        except zlib.error:
            raise RefusedBody(
                400, "the body is not gzip, though Content-Encoding says so"
            ) from None
        self._input = self._inflater.unconsumed_tail or self._inflater.unused_data
        self._full = len(data) == PIECE_BYTES and not self._inflater.eof
        return data


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

    async def again() -> Event:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
