"""Bodies of requests, read whole before a handler runs: none is too large or comes too slowly."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.types import Message, Receive

MAX_BYTES: Final = 64 * 1024
SLOWEST_S: Final = 10.0


class RefusedBody(Exception):
    """A body that is not served; `status` is the answer's."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


async def read_body(receive: Receive, *, most: int, within_s: float) -> bytes:
    """Return the whole body.

    Raises:
        RefusedBody: it has more than `most` bytes, is not there `within_s`, or the client left.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(within_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise RefusedBody(400, "the client left")
                body += message.get("body", b"")
                if len(body) > most:
                    raise RefusedBody(413, f"the body has more than {most} bytes")
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError as error:
        raise RefusedBody(408, f"the body did not come within {within_s:g} s") from error


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body first and then goes on with `receive`."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
