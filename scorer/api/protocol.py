"""The gateway's HTTP protocol: slow heads end, and what is no HTTP is refused by a problem.

It touches uvicorn's private parts; a test fails if they change.
"""

from __future__ import annotations

from schemas.runtime.patient_protocol import PatientProtocol
from scorer.api.problems import MEDIA_TYPE, Problem


class GatewayProtocol(PatientProtocol):
    """One connection."""

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
