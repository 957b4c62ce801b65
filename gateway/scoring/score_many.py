"""`POST /score-transactions`: a batch in, one line per transaction out, in the order of the input.

Each batch has three tasks. One reads the body without a pause, as a client that sends everything
before it reads would otherwise block, and then watches whether the client is still there: without
it, the batch ends. One starts transactions, at most WINDOW at a time. One writes the answers.
Memory is therefore bounded by the size of the body, and the load on the pipeline by the window.
Clients that send or read too slowly are disconnected, and the number of batches per key is limited,
so that nobody can shut the others out.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from time import thread_time
from typing import Final, TypeVar

from gateway.scoring.batch_body import BatchBody, read_on, slices
from gateway.scoring.batch_input import Item, batch_input
from gateway.scoring.gateway import Gateway
from gateway.scoring.reading import TransactionReader, deadline_s
from gateway.web.access import Caller
from gateway.web.problems import Problem
from gateway.web.reply import SAFE
from runtime.web.asgi import Event, Receive, Scope, Send
from runtime.web.bodies import SLOW_S, Disconnected, Piece

NDJSON: Final = b"application/x-ndjson"
WINDOW: Final = 1_000
"""Transactions of one batch that may wait for their decision at the same time."""
MAX_BATCHES_PER_KEY: Final = 4
"""Simultaneous batches of one key."""
MAX_BATCHES_TOTAL: Final = 16
"""Simultaneous batches of all keys: their windows together stay below `gateway.MAX_WAITING`."""
RESERVED_BATCHES: Final = 4
"""Of which the last ones are for keys that have no batch in progress."""
MAX_TRANSACTIONS: Final = 200_000
"""Lines or elements of one batch; very short ones would otherwise keep it running for hours."""
DEADLINE_MS: Final = 5_000
"""Default deadline of each transaction of a batch, as nobody is waiting at a till."""
TURN_S: Final = 0.001
"""Processing time after which other requests get a turn."""
CHUNK_BYTES: Final = 65_536
Slot = asyncio.Future[bytes] | bytes
Result = TypeVar("Result")


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
        body = BatchBody(scope, receive, self._max_bytes, self._slow_s)
        self._running[caller.key_id] += 1
        try:
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
        reserved = RESERVED_BATCHES if self._running[key_id] else 0
        if self._running.total() >= MAX_BATCHES_TOTAL - reserved:
            raise Problem(
                "unavailable",
                f"{self._running.total()} batches are in progress: send this one later",
                headers=later,
            )

    async def _answer(
        self, first: Piece, deadline: float, caller: Caller, body: BatchBody, send: Send
    ) -> None:
        pieces: asyncio.Queue[Piece | Problem] = asyncio.Queue()
        slots: asyncio.Queue[Slot | None] = asyncio.Queue(WINDOW)
        pieces.put_nowait(first)
        reading = asyncio.create_task(read_on(first, body, pieces))
        starting = asyncio.create_task(self._start(pieces, slots, deadline, caller))
        tasks = [reading, starting]
        headers = [(b"content-type", NDJSON), *SAFE]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            writing = asyncio.create_task(_write(slots, send))
            tasks.append(writing)
            await asyncio.wait((reading, writing), return_when=asyncio.FIRST_COMPLETED)
            if not writing.done():
                reading.result()  # raises: it ends only when the client has gone
            await writing
            await starting
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError, Disconnected):
                    await task
        await send({"type": "http.response.body", "body": b""})

    async def _start(
        self,
        pieces: asyncio.Queue[Piece | Problem],
        slots: asyncio.Queue[Slot | None],
        deadline: float,
        caller: Caller,
    ) -> None:
        loop, turn = asyncio.get_running_loop(), _Turn(caller)
        number = 0
        try:
            async for item in self._items(pieces, turn):
                number += 1
                wait = caller.allowance.pace(loop.time())
                if wait > 0:
                    await turn.give(wait)
                slot = self._slot(item, number, deadline, caller)
                if slots.full():
                    await turn.wait_for(slots.put(slot))
                else:
                    slots.put_nowait(slot)
                    await turn.give_if_over()
        except Exception:
            await slots.put(None)  # the writer must not wait for ever
            raise
        await turn.wait_for(slots.put(None))

    async def _items(
        self, pieces: asyncio.Queue[Piece | Problem], turn: _Turn
    ) -> AsyncIterator[Item]:
        piece = await pieces.get()
        reader = batch_input(b"" if isinstance(piece, Problem) else piece.data, self._max_line)
        left = MAX_TRANSACTIONS
        try:
            while True:
                if isinstance(piece, Problem):
                    raise piece
                for data, last in slices(piece):
                    for item in reader.feed(data, last=last):
                        yield item
                        left -= 1
                        if left == 0:
                            raise Problem(
                                "too-large", f"a batch has at most {MAX_TRANSACTIONS} transactions"
                            )
                    turn.size += len(data)
                    await turn.give_if_over()
                if not piece.more:
                    return
                piece = await turn.wait_for(pieces.get())
        except Problem as problem:
            yield problem

    def _slot(self, item: Item, number: int, deadline: float, caller: Caller) -> Slot:
        try:
            if isinstance(item, Problem):
                raise item
            return self._gateway.score(self._reader.json(item), deadline, caller)
        except Problem as problem:
            return _problem_line(problem, number)


class _Turn:
    """The processing time of a batch since others had theirs; it is booked on its key.

    `size` are the bytes that were parsed in it.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller, self._began, self.size = caller, thread_time(), 0

    async def give_if_over(self) -> None:
        """Give other requests a turn if this one has taken long enough."""
        if thread_time() - self._began > TURN_S:
            await self.give(0)

    async def give(self, seconds: float) -> None:
        """Give other requests a turn of at least `seconds`."""
        self._book()
        await asyncio.sleep(seconds)
        self._began = thread_time()

    async def wait_for(self, something: Awaitable[Result]) -> Result:
        """Return what is awaited; the time until then is not this batch's."""
        self._book()
        try:
            return await something
        finally:
            self._began = thread_time()

    def _book(self) -> None:
        self._caller.spend(self.size, thread_time() - self._began)
        self.size = 0


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
