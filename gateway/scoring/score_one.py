"""`POST /score-transaction`: one transaction in, one answer out."""

from __future__ import annotations

import asyncio
import codecs
from concurrent.futures import ThreadPoolExecutor
from time import thread_time
from typing import Final

from gateway.scoring.gateway import Gateway
from gateway.scoring.reading import TransactionReader, deadline_s
from gateway.web.access import Caller
from gateway.web.problems import Problem
from gateway.web.reply import reply
from runtime.web.asgi import Receive, Scope, Send
from runtime.web.bodies import SLOW_S, open_body, read_body
from schemas.records import Transaction

LARGE_BYTES: Final = 16_384
"""From this size on, a body is parsed on another thread: it must not hold up the others."""


class ScoreOne:
    """The ASGI endpoint of single transactions; the deadline counts from the end of the body."""

    def __init__(
        self,
        gateway: Gateway,
        reader: TransactionReader,
        *,
        max_bytes: int,
        deadline_ms: int,
        slow_s: float = SLOW_S,
    ) -> None:
        self._gateway, self._reader = gateway, reader
        self._max_bytes, self._deadline_ms, self._slow_s = max_bytes, deadline_ms, slow_s
        self._large = ThreadPoolExecutor(1, "large bodies")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; may raise Problem or RefusedBody."""
        deadline, caller = deadline_s(scope, self._deadline_ms), scope["caller"]
        received = open_body(scope, receive, self._max_bytes)
        body = await read_body(received, max_bytes=self._max_bytes, within_s=self._slow_s)
        transaction = await self._read(body.removeprefix(codecs.BOM_UTF8), caller)
        answer = await self._gateway.score(transaction, deadline, caller)
        await reply(send, 200, answer)

    async def _read(self, body: bytes, caller: Caller) -> Transaction:
        """Return the transaction of a body, and book what that cost the gateway."""
        if len(body) < LARGE_BYTES:
            found, seconds = self._timed(body)
        else:
            loop = asyncio.get_running_loop()
            found, seconds = await loop.run_in_executor(self._large, self._timed, body)
        caller.spend(len(body), seconds)
        if isinstance(found, Problem):
            raise found
        return found

    def _timed(self, body: bytes) -> tuple[Transaction | Problem, float]:
        began = thread_time()
        found: Transaction | Problem
        try:
            found = self._reader.json(body)
        except Problem as problem:
            found = problem
        return found, thread_time() - began
