"""uvicorn's HTTP protocol with what it lacks: a client that sends no whole head is hung up on.

Dashboard and gateway use it. It touches uvicorn's private parts; a test fails if they change.
"""

from __future__ import annotations

from asyncio import TimerHandle, Transport
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S: Final = 10.0
"""Time for the head of a request, from the connection or from its first byte on."""


class HeaderTimeoutProtocol(HttpToolsProtocol):
    """One connection; a subclass may give heads another time."""

    head_s: float = HEAD_S
    _timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Wait for a first request."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; those that come between two requests must become a head.

        The parser passes over empty lines, and uvicorn waits for ever once anything has come.
        """
        if self.timeout_keep_alive_task is not None:
            self._await_head()
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Wait for the rest of the head."""
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        """Begin with the request."""
        self._head_came()
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._head_came()
        self._timer = self.loop.call_later(self.head_s, self.transport.close)

    def _head_came(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
