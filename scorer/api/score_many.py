"""`POST /score-transactions`: a batch in, one line a transaction back, in the order of the input.

Three tasks a batch: one reads the body (all the time, so that a client that first sends and then
reads does not stand still; its size is bounded), one starts transactions, at most WINDOW at a time,
and one writes. So memory is bounded by the body, and the pipeline by the window.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from scorer.api.access import Caller
from scorer.api.batch_input import Item, batch_input
from scorer.api.body import SLOW_S, Disconnected, Piece, next_piece, refuse_large, too_large
from scorer.api.gateway import Gateway
from scorer.api.problems import Problem
from scorer.api.reading import TransactionReader, deadline_s
from scorer.api.reply import SAFE, Receive, Scope, Send

NDJSON: Final = b"application/x-ndjson"
WINDOW: Final = 1_000
"""Transactions of one batch that are under way at one time."""
MOST_BATCHES: Final = 4
DEADLINE_MS: Final = 5_000
"""Default deadline of each transaction of a batch: nobody stands at a till."""
YIELD_EVERY: Final = 16
"""Transactions after which other requests get their turn."""
CHUNK: Final = 65_536
Slot = asyncio.Future[bytes] | bytes


class ScoreMany:
    """The ASGI endpoint."""

    def __init__(
        self,
        gateway: Gateway,
        reader: TransactionReader,
        *,
        most_bytes: int,
        most_line: int,
        slow_s: float = SLOW_S,
    ) -> None:
        self._gateway, self._reader = gateway, reader
        self._most_bytes, self._most_line, self._slow_s = most_bytes, most_line, slow_s
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one batch; raises Problem before the answer has begun."""
        deadline = deadline_s(scope, DEADLINE_MS)
        if self._running >= MOST_BATCHES:
            raise Problem(
                "unavailable",
                f"{MOST_BATCHES} batches are under way: send this one later",
                headers={"Retry-After": "1"},
            )
        refuse_large(scope, self._most_bytes)
        self._running += 1
        try:
            first = await self._first_piece(receive)
            await self._answer(first, deadline, scope["caller"], receive, send)
        finally:
            self._running -= 1

    async def _answer(
        self, first: Piece, deadline: float, caller: Caller, receive: Receive, send: Send
    ) -> None:
        pieces: asyncio.Queue[Piece | Problem] = asyncio.Queue()
        slots: asyncio.Queue[Slot | None] = asyncio.Queue(WINDOW)
        pieces.put_nowait(first)
        reading = asyncio.create_task(self._read(first, receive, pieces))
        starting = asyncio.create_task(self._start(pieces, slots, deadline, caller))
        headers = [(b"content-type", NDJSON), *SAFE]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            await _write(slots, send)
            await starting
        finally:
            for task in (reading, starting):
                task.cancel()
                with suppress(asyncio.CancelledError, Disconnected):
                    await task
        await send({"type": "http.response.body", "body": b""})

    async def _first_piece(self, receive: Receive) -> Piece:
        """Return the beginning of the body, with something in it: it tells the form."""
        data = b""
        while True:
            piece = await next_piece(receive, self._slow_s)
            data += piece.data
            if len(data) > self._most_bytes:
                raise too_large(self._most_bytes)
            if data.strip() or not piece.more:
                return Piece(data, piece.more)

    async def _read(
        self, first: Piece, receive: Receive, pieces: asyncio.Queue[Piece | Problem]
    ) -> None:
        size, piece = len(first.data), first
        try:
            while piece.more:
                piece = await next_piece(receive, self._slow_s)
                size += len(piece.data)
                if size > self._most_bytes:
                    raise too_large(self._most_bytes)
                pieces.put_nowait(piece)
        except Problem as problem:
            pieces.put_nowait(problem)
        except Disconnected:
            pieces.put_nowait(Problem("bad-request", "the connection ended before the body"))

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
        reader = batch_input(b"" if isinstance(piece, Problem) else piece.data, self._most_line)
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


async def _write(slots: asyncio.Queue[Slot | None], send: Send) -> None:
    """Send answers in order, as many at once as are there."""
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
        if size > CHUNK:
            await hand_over()


def _problem_line(problem: Problem, number: int) -> bytes:
    return json.dumps({"line": number, **problem.document()}).encode()
