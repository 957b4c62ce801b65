"""A lock shared by coroutines on different event loops."""

from __future__ import annotations

import asyncio
import threading


class CrossLoopLock:
    """A lock for `async with` that works across the event loops of different threads.

    `asyncio.Lock` belongs to one loop. Here a batch is processed on the loop of the fetching thread
    and a rebalance on Faust's own loop, and only one of them may run at a time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    async def __aenter__(self) -> None:
        """Acquire the lock without blocking the loop."""
        if self._lock.acquire(blocking=False):
            return
        waiting = asyncio.get_running_loop().run_in_executor(None, self._lock.acquire)
        try:
            await asyncio.shield(waiting)
        except asyncio.CancelledError:
            waiting.add_done_callback(lambda _: self._lock.release())
            raise

    async def __aexit__(self, *_: object) -> None:
        """Release the lock."""
        self._lock.release()
