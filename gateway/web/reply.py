"""Answers over plain ASGI, without a framework in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

from gateway.web.problems import MEDIA_TYPE, Problem

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
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


def header(scope: Scope, name: bytes) -> bytes | None:
    """Return the first value of a request header, or None; `name` is in lower case."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None
