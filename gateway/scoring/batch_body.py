"""The body of a batch: its pieces as they come in, under limits of size and time."""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import Iterator
from typing import Final

from gateway.web.problems import Problem, of_body
from runtime.web.asgi import Receive, Scope
from runtime.web.bodies import Disconnected, Piece, RefusedBody, next_piece, open_body, too_large

MIN_BYTES_PER_S: Final = 16_384
"""Lowest average rate of a body after its first seconds."""
SLICE_BYTES: Final = 4_096
"""So much of the body is parsed in one go."""


class BatchBody:
    """The pieces of a body, with limits on size and time; the time counts from construction."""

    def __init__(self, scope: Scope, receive: Receive, max_bytes: int, slow_s: float) -> None:
        """Begin to read.

        Raises:
            RefusedBody: its headers already say that it is not served.
        """
        self._receive, self._rest = open_body(scope, receive, max_bytes), receive
        self._max_bytes, self._slow_s = max_bytes, slow_s
        self._began, self._size = asyncio.get_running_loop().time(), 0

    async def next(self) -> Piece:
        """Return the next piece.

        Raises:
            RefusedBody: the body is too large, or is slower than `slow_s` and MIN_BYTES_PER_S
                allow.
            Disconnected: the client has disconnected.
        """
        over = self._began + self._slow_s + self._size / MIN_BYTES_PER_S
        left = over - asyncio.get_running_loop().time()
        piece = await next_piece(self._receive, min(left, self._slow_s))
        self._size += len(piece.data)
        if self._size > self._max_bytes:
            raise too_large(self._max_bytes)
        return piece

    async def first(self) -> Piece:
        """Return the beginning up to the first non-blank byte, which shows the body's format.

        A byte order mark in front of it is left out. Raises as `next`.
        """
        data, mark = b"", codecs.BOM_UTF8
        while True:
            piece = await self.next()
            data = (data + piece.data).removeprefix(mark)
            begun = data.strip() and not mark.startswith(data)
            if begun or not piece.more:
                return Piece(data, piece.more)
            if not data.strip():
                data = b""  # blanks without end must not be joined and searched again and again

    async def client_gone(self) -> None:
        """Wait until the client has gone; what comes after a refused body is not looked at."""
        while (await self._rest())["type"] != "http.disconnect":
            pass


async def read_on(first: Piece, body: BatchBody, pieces: asyncio.Queue[Piece | Problem]) -> None:
    """Read on to the end of the body, and then wait until the client has gone.

    Raises:
        Disconnected: the client has gone.
    """
    piece = first
    try:
        while piece.more:
            piece = await body.next()
            pieces.put_nowait(piece)
    except RefusedBody as refused:
        pieces.put_nowait(of_body(refused))
    await body.client_gone()
    raise Disconnected


def slices(piece: Piece) -> Iterator[tuple[bytes, bool]]:
    """Yield a piece of the body in parts, and whether it is the last of the body."""
    data = piece.data
    for at in range(0, max(len(data), 1), SLICE_BYTES):
        part = data[at : at + SLICE_BYTES]
        yield part, not piece.more and at + SLICE_BYTES >= len(data)
