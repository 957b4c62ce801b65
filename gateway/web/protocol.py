"""The gateway's HTTP protocol: slow heads end, who does not read its answer is hung up on, and what
is no HTTP is refused by a problem.

It touches uvicorn's private parts; a test fails if they change.
"""

from __future__ import annotations

from asyncio import TimerHandle

from gateway.web.problems import MEDIA_TYPE, Problem
from runtime.web.bodies import SLOW_S
from runtime.web.header_timeout import HeaderTimeoutProtocol


class GatewayProtocol(HeaderTimeoutProtocol):
    """One connection; a subclass may give readers another time."""

    read_s: float = SLOW_S
    _unread: TimerHandle | None = None

    def pause_writing(self) -> None:
        """Wait for the client to read: closing alone would wait for what it does not take."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.read_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        self._was_read()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._was_read()
        super().connection_lost(exc)

    def _was_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

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
