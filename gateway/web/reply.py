"""Answers over plain ASGI, without a framework in between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.web.problems import MEDIA_TYPE, Problem
from runtime.web.asgi import Send

Headers = list[tuple[bytes, bytes]]

JSON: Final = b"application/json"
SAFE: Final[Headers] = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
]
"""Headers of every answer."""


async def reply(
    send: Send,
    status: int,
    body: bytes,
    media_type: bytes = JSON,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Send a complete answer."""
    fields = [
        (b"content-type", media_type),
        (b"content-length", str(len(body)).encode()),
        *SAFE,
    ]
    if headers:
        fields += [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def reply_problem(send: Send, problem: Problem) -> None:
    """Send a problem as the answer."""
    await reply(send, problem.status, problem.body(), MEDIA_TYPE.encode(), problem.headers)
