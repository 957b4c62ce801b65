"""Tasks that must run as long as the process does: one that ends is a failure, never silence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import structlog

log = structlog.get_logger(__name__)


class Background:
    """Runs them. `failed` says which one ended and why, "" while all run.

    Args:
        ended: called when the first one has ended.
    """

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended = ended
        self._tasks: list[asyncio.Task[None]] = []
        self.failed = ""

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run `work`; `name` is what it does, for people."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._done)
        self._tasks.append(task)

    async def stop(self) -> None:
        """End all."""
        for task in self._tasks:
            task.remove_done_callback(self._done)
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task

    def _done(self, task: asyncio.Task[None]) -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        log.error("a task in the background ended", task=task.get_name(), exc_info=error)
        self.failed = self.failed or f"ended: {task.get_name()}: {error!r}"
        self._ended()
