"""uvicorn's HTTP protocol with what it lacks: limits on connections, and on each request's head.

A client that does not send its whole head is disconnected, one that sends too long a head is
refused, and so are connections beyond the limits, before anything of them is read. Dashboard and
gateway use it. It relies on private parts of uvicorn; a test fails if they change.
"""

from __future__ import annotations

from asyncio import TimerHandle, Transport
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from runtime.web.connections import ConnectionLimits

HEAD_S: Final = 10.0
"""Time for the head of a request, from the connection or from its first byte on."""
MAX_HEAD_BYTES: Final = 65_536
"""Of a head that comes in several pieces of the stream; a piece has at most 256 KB."""
FREE_PIECES: Final = 1_000
MIN_PIECE_BYTES: Final = 32
"""Average of the pieces of a body, if there are many: each costs as much as a hundred bytes."""
TOO_LONG: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n"
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: 21\r\n\r\nthe head is too long\n"
)
FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n"
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: 32\r\n\r\n"
    b"too many connections: try again\n"
)


class BoundedConnection(HttpToolsProtocol):
    """One connection; a subclass may give heads another time.

    `limits` counts the connections of one server; None lets all of them in.
    """

    head_s: float = HEAD_S
    limits: ConnectionLimits | None = None
    _timer: TimerHandle | None = None
    _admitted = False
    _head_bytes = _pieces = _body_bytes = 0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Wait for a first request, or refuse the connection."""
        super().connection_made(transport)
        if self.limits is not None:
            self._admitted = self.limits.admit(self._address())
            if not self._admitted:
                transport.write(FULL)
                transport.close()
                return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._head_came()
        if self._admitted and self.limits is not None:
            self._admitted = False
            self.limits.release(self._address())
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; those that come between two requests must become a head.

        The parser passes over empty lines, and uvicorn waits for ever once anything has come.
        """
        if self.transport.is_closing():
            return
        if self.timeout_keep_alive_task is not None:
            self._await_head()
        self._head_bytes += len(data)
        super().data_received(data)
        if self._timer is not None and self._head_bytes > MAX_HEAD_BYTES:
            self.transport.write(TOO_LONG)
            self.transport.close()

    def on_message_begin(self) -> None:
        """Wait for the rest of the head; the piece in which it begins is not counted."""
        super().on_message_begin()
        self._head_bytes = self._pieces = self._body_bytes = 0
        self._await_head()

    def on_headers_complete(self) -> None:
        """Begin with the request."""
        self._head_came()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body: whatever the client put into one chunk.

        Raises:
            ValueError: it has very many very small ones; the parser stops, and the answer is 400.
        """
        self._pieces += 1
        self._body_bytes += len(body)
        if self._pieces > FREE_PIECES and self._body_bytes < MIN_PIECE_BYTES * self._pieces:
            raise ValueError("the chunks of the body are too small")
        super().on_body(body)

    def _address(self) -> str | None:
        return self.client[0] if self.client else None

    def _await_head(self) -> None:
        self._head_came()
        self._timer = self.loop.call_later(self.head_s, self.transport.close)

    def _head_came(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
