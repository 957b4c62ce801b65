"""Sends each message to all open browsers, and disconnects those that do not keep up.

Call `publish` from any thread, and everything else on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

MAX_WAITING: Final = 16
"""Messages that may wait for a browser; beyond that it must reconnect for a new snapshot."""


class LiveEvent(NamedTuple):
    """One message: an id from which a browser can resume, a kind, and JSON."""

    identity: str
    kind: str
    data: str


class Hub:
    """The subscriptions of the open browsers."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[LiveEvent | None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        """Return the number of open browsers."""
        return len(self._queues)

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start to deliver messages, on this event loop."""
        self._loop = loop

    def close(self) -> None:
        """End every subscription."""
        self._loop = None
        for queue in self._queues:
            _end(queue)

    def publish(self, message: LiveEvent) -> None:
        """Send a message to all browsers; returns at once. Thread-safe."""
        loop = self._loop
        if loop is not None:
            loop.call_soon_threadsafe(self._hand_out, message)

    def join(self) -> asyncio.Queue[LiveEvent | None]:
        """Return a queue of all messages from now on, for `listen`."""
        queue: asyncio.Queue[LiveEvent | None] = asyncio.Queue(MAX_WAITING)
        self._queues.add(queue)
        return queue

    async def listen(self, queue: asyncio.Queue[LiveEvent | None]) -> AsyncIterator[LiveEvent]:
        """Yield the messages of a queue until the hub closes or the caller is too slow."""
        try:
            while (message := await queue.get()) is not None:
                yield message
        finally:
            self._queues.discard(queue)

    def _hand_out(self, message: LiveEvent) -> None:
        for queue in list(self._queues):
            if queue.full():
                self._queues.discard(queue)
                _end(queue)
            else:
                queue.put_nowait(message)


def _end(queue: asyncio.Queue[LiveEvent | None]) -> None:
    """Empty the queue and put the end marker into it."""
    while not queue.empty():
        queue.get_nowait()
    queue.put_nowait(None)
