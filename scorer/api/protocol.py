"""uvicorn's HTTP protocol with two things that it lacks: slow heads end, bad requests are problems.

The only place that touches uvicorn's private parts; a test fails if they change.
"""

from __future__ import annotations

from asyncio import TimerHandle, Transport
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from scorer.api.problems import MEDIA_TYPE, Problem

HEAD_S: Final = 10.0
"""Time for the head of a request, from the connection or from its first byte on."""


class GatewayProtocol(HttpToolsProtocol):
    """One connection."""

    _head_timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Wait for a first request."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._head_came()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Wait for the rest of the head."""
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        """Begin with the request."""
        self._head_came()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._head_came()
        body = Problem("bad-request", msg).body()
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n"
            b"content-type: %b\r\ncontent-length: %d\r\n\r\n%b"
            % (MEDIA_TYPE.encode(), len(body), body)
        )
        self.transport.close()

    def _await_head(self) -> None:
        self._head_came()
        self._head_timer = self.loop.call_later(HEAD_S, self.transport.close)

    def _head_came(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
