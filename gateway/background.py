"""Background tasks that must run as long as the process: one that ends is a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import structlog

log = structlog.get_logger(__name__)


class Background:
    """Runs background tasks. `failed` names the first one that ended and why, else it is "".

    Args:
        ended: called whenever a task has ended by itself.
    """

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended = ended
        self._tasks: list[asyncio.Task[None]] = []
        self.failed = ""

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Start `work` as a task; `name` describes it to people."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._done)
        self._tasks.append(task)

    async def stop(self) -> None:
        """Cancel all tasks and wait for their end."""
        for task in self._tasks:
            task.remove_done_callback(self._done)
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task

    def _done(self, task: asyncio.Task[None]) -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        log.error("a background task ended", task=task.get_name(), exc_info=error)
        self.failed = self.failed or f"ended: {task.get_name()}: {error!r}"
        self._ended()
