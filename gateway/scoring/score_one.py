"""`POST /score-transaction`: one transaction in, one answer out."""

from __future__ import annotations

from gateway.scoring.gateway import Gateway
from gateway.scoring.reading import TransactionReader, deadline_s
from gateway.web.reply import Receive, Scope, Send, header, reply
from runtime.web.bodies import SLOW_S, read_body, refuse_large


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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; may raise Problem or RefusedBody."""
        deadline = deadline_s(scope, self._deadline_ms)
        refuse_large(header(scope, b"content-length"), self._max_bytes)
        body = await read_body(receive, max_bytes=self._max_bytes, within_s=self._slow_s)
        answer = await self._gateway.score(self._reader.json(body), deadline)
        await reply(send, 200, answer)
