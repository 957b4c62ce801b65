"""One turn of the worker at a time, whichever event loop it comes from."""

from __future__ import annotations

import asyncio
import threading


class Turns:
    """A lock to be held with `async with`, also across the loops of different threads.

    A turn is served in the thread that fetched its records, a rebalance on Faust's loop.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    async def __aenter__(self) -> None:
        """Wait for the turn under way, without holding the loop up."""
        if self._lock.acquire(blocking=False):
            return
        waiting = asyncio.get_running_loop().run_in_executor(None, self._lock.acquire)
        try:
            await asyncio.shield(waiting)
        except asyncio.CancelledError:
            waiting.add_done_callback(lambda _: self._lock.release())
            raise

    async def __aexit__(self, *_: object) -> None:
        """Let the next one go on."""
        self._lock.release()
