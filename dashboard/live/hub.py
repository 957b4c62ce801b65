"""Hands each message to every open browser; one that does not keep up is dropped, none waits.

Publish from any thread; everything else belongs to the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

WAITING: Final = 16
"""Messages that wait for a browser before it is dropped; it connects again and is told all."""


class Event(NamedTuple):
    """One message: its id, from which a browser goes on, its kind, and JSON."""

    identity: str
    kind: str
    data: str


class Hub:
    """The open browsers."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[Event | None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        """Number of open browsers."""
        return len(self._queues)

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to hand out, on this loop."""
        self._loop = loop

    def close(self) -> None:
        """End every subscription."""
        self._loop = None
        for queue in self._queues:
            _end(queue)

    def publish(self, message: Event) -> None:
        """Hand a message to all; returns at once. Thread-safe."""
        loop = self._loop
        if loop is not None:
            loop.call_soon_threadsafe(self._hand_out, message)

    def join(self) -> asyncio.Queue[Event | None]:
        """Return a queue that gets what is published from now on; `listen` to it."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue(WAITING)
        self._queues.add(queue)
        return queue

    async def listen(self, queue: asyncio.Queue[Event | None]) -> AsyncIterator[Event]:
        """Yield what comes, until the hub closes or the caller is too slow; then leave."""
        try:
            while (message := await queue.get()) is not None:
                yield message
        finally:
            self._queues.discard(queue)

    def _hand_out(self, message: Event) -> None:
        for queue in list(self._queues):
            if queue.full():
                self._queues.discard(queue)
                _end(queue)
            else:
                queue.put_nowait(message)


def _end(queue: asyncio.Queue[Event | None]) -> None:
    """Leave only the end in the queue."""
    while not queue.empty():
        queue.get_nowait()
    queue.put_nowait(None)
