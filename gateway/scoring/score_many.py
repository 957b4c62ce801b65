"""`POST /score-transactions`: a batch in, one line per transaction out, in the order of the input.

Each batch has three tasks. One reads the body without a pause, as a client that sends everything
before it reads would otherwise block. One starts transactions, at most WINDOW at a time. One writes
the answers. Memory is therefore bounded by the size of the body, and the load on the pipeline by
the window. Clients that send or read too slowly are disconnected, and the number of batches per key
is limited, so that nobody can shut the others out.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from gateway.scoring.batch_input import Item, batch_input
from gateway.scoring.gateway import Gateway
from gateway.scoring.reading import TransactionReader, deadline_s
from gateway.web.access import Caller
from gateway.web.problems import Problem, of_body
from gateway.web.reply import SAFE, Event, Receive, Scope, Send, header
from runtime.web.bodies import (
    SLOW_S,
    Disconnected,
    Piece,
    RefusedBody,
    next_piece,
    refuse_large,
    too_large,
)

NDJSON: Final = b"application/x-ndjson"
WINDOW: Final = 1_000
"""Transactions of one batch that may wait for their decision at the same time."""
MAX_BATCHES_PER_KEY: Final = 4
"""Simultaneous batches of one key."""
MAX_BATCHES_TOTAL: Final = 16
"""Simultaneous batches of all keys: their windows together stay below `gateway.MAX_WAITING`."""
MIN_BYTES_PER_S: Final = 16_384
"""Lowest average rate of a body after its first SLOW_S seconds."""
DEADLINE_MS: Final = 5_000
"""Default deadline of each transaction of a batch, as nobody is waiting at a till."""
YIELD_EVERY: Final = 16
"""Number of transactions after which other requests get a turn."""
CHUNK_BYTES: Final = 65_536
Slot = asyncio.Future[bytes] | bytes


class ScoreMany:
    """The ASGI endpoint of batches."""

    def __init__(
        self,
        gateway: Gateway,
        reader: TransactionReader,
        *,
        max_bytes: int,
        max_line_bytes: int,
        slow_s: float = SLOW_S,
    ) -> None:
        self._gateway, self._reader = gateway, reader
        self._max_bytes, self._max_line, self._slow_s = max_bytes, max_line_bytes, slow_s
        self._running: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one batch; may raise Problem or RefusedBody, but only before the answer begins."""
        deadline = deadline_s(scope, DEADLINE_MS)
        caller: Caller = scope["caller"]
        self._refuse_many(caller.key_id)
        refuse_large(header(scope, b"content-length"), self._max_bytes)
        self._running[caller.key_id] += 1
        try:
            body = _Body(receive, self._max_bytes, self._slow_s)
            first = await body.first()
            await self._answer(first, deadline, caller, body, _patiently(send, self._slow_s))
        finally:
            self._running[caller.key_id] -= 1
            self._running = +self._running  # drops keys without a batch

    def _refuse_many(self, key_id: str) -> None:
        later = {"Retry-After": "1"}
        if self._running[key_id] >= MAX_BATCHES_PER_KEY:
            raise Problem(
                "rate-limit",
                f"{MAX_BATCHES_PER_KEY} batches of this key are in progress: send this one later",
                headers=later,
            )
        if self._running.total() >= MAX_BATCHES_TOTAL:
            raise Problem(
                "unavailable",
                f"{MAX_BATCHES_TOTAL} batches are in progress: send this one later",
                headers=later,
            )

    async def _answer(
        self, first: Piece, deadline: float, caller: Caller, body: _Body, send: Send
    ) -> None:
        pieces: asyncio.Queue[Piece | Problem] = asyncio.Queue()
        slots: asyncio.Queue[Slot | None] = asyncio.Queue(WINDOW)
        pieces.put_nowait(first)
        reading = asyncio.create_task(_read(first, body, pieces))
        starting = asyncio.create_task(self._start(pieces, slots, deadline, caller))
        headers = [(b"content-type", NDJSON), *SAFE]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await _write(slots, send)
            await starting
        finally:
            for task in (reading, starting):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        await send({"type": "http.response.body", "body": b""})

    async def _start(
        self,
        pieces: asyncio.Queue[Piece | Problem],
        slots: asyncio.Queue[Slot | None],
        deadline: float,
        caller: Caller,
    ) -> None:
        loop = asyncio.get_running_loop()
        number = 0
        try:
            async for item in self._items(pieces):
                number += 1
                wait = caller.bucket.reserve(loop.time())
                if wait > 0:
                    await asyncio.sleep(wait)
                elif number % YIELD_EVERY == 0:
                    await asyncio.sleep(0)
                await slots.put(self._slot(item, number, deadline))
        except Exception:
            await slots.put(None)  # the writer must not wait for ever
            raise
        await slots.put(None)

    async def _items(self, pieces: asyncio.Queue[Piece | Problem]) -> AsyncIterator[Item]:
        piece = await pieces.get()
        reader = batch_input(b"" if isinstance(piece, Problem) else piece.data, self._max_line)
        try:
            while True:
                if isinstance(piece, Problem):
                    raise piece
                for item in reader.feed(piece.data, last=not piece.more):
                    yield item
                if not piece.more:
                    return
                piece = await pieces.get()
        except Problem as problem:
            yield problem

    def _slot(self, item: Item, number: int, deadline: float) -> Slot:
        try:
            if isinstance(item, Problem):
                raise item
            reader = self._reader
            transaction = reader.json(item) if isinstance(item, bytes) else reader.record(item)
            return self._gateway.score(transaction, deadline)
        except Problem as problem:
            return _problem_line(problem, number)


class _Body:
    """The pieces of a body, with limits on size and time; the time counts from construction."""

    def __init__(self, receive: Receive, max_bytes: int, slow_s: float) -> None:
        self._receive, self._max_bytes, self._slow_s = receive, max_bytes, slow_s
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

        Raises as `next`.
        """
        data = b""
        while True:
            piece = await self.next()
            data += piece.data
            if data.strip() or not piece.more:
                return Piece(data, piece.more)


async def _read(first: Piece, body: _Body, pieces: asyncio.Queue[Piece | Problem]) -> None:
    piece = first
    try:
        while piece.more:
            piece = await body.next()
            pieces.put_nowait(piece)
    except RefusedBody as refused:
        pieces.put_nowait(of_body(refused))
    except Disconnected:
        pieces.put_nowait(
            Problem("bad-request", "the connection was closed before the end of the body")
        )


def _patiently(send: Send, slow_s: float) -> Send:
    """Wrap `send` so that it raises Disconnected if the client reads nothing for `slow_s`."""

    async def sent(event: Event) -> None:
        try:
            async with asyncio.timeout(slow_s):
                await send(event)
        except TimeoutError:
            raise Disconnected from None

    return sent


async def _write(slots: asyncio.Queue[Slot | None], send: Send) -> None:
    """Send the answers in order, as many together as are available."""
    lines: list[bytes] = []
    size, number = 0, 0

    async def hand_over() -> None:
        nonlocal size
        if lines:
            lines.append(b"")
            await send({"type": "http.response.body", "body": b"\n".join(lines), "more_body": True})
            lines.clear()
            size = 0

    while True:
        if slots.empty():
            await hand_over()
        slot = await slots.get()
        if slot is None:
            await hand_over()
            return
        number += 1
        if isinstance(slot, bytes):
            line = slot
        else:
            if not slot.done():
                await hand_over()
            try:
                line = await slot
            except Problem as problem:
                line = _problem_line(problem, number)
        lines.append(line)
        size += len(line)
        if size > CHUNK_BYTES:
            await hand_over()


def _problem_line(problem: Problem, number: int) -> bytes:
    return json.dumps({"line": number, **problem.document()}).encode()
