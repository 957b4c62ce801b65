"""The gateway's HTTP protocol: time-outs for slow clients, and problem documents for invalid HTTP.

Clients that send headers too slowly or do not read their answer are disconnected. This relies on
private parts of uvicorn; a test fails if they change.
"""

from __future__ import annotations

from asyncio import TimerHandle

from gateway.web.problems import MEDIA_TYPE, Problem
from runtime.web.bodies import SLOW_S
from runtime.web.connection import BoundedConnection


class GatewayProtocol(BoundedConnection):
    """One connection. A client has `read_s` seconds to go on reading its answer."""

    read_s: float = SLOW_S
    _unread: TimerHandle | None = None

    def pause_writing(self) -> None:
        """Abort after `read_s`: a normal close would wait for the client to read the rest."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.read_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Cancel the abort: the client is reading again."""
        super().resume_writing()
        self._was_read()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel a pending abort."""
        self._was_read()
        super().connection_lost(exc)

    def _was_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def send_400_response(self, msg: str) -> None:
        """Answer invalid HTTP with a problem document, and close."""
        self._head_came()
        body = Problem("bad-request", msg).body()
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n"
            b"content-type: %b\r\ncontent-length: %d\r\n\r\n%b"
            % (MEDIA_TYPE.encode(), len(body), body)
        )
        self.transport.close()
