"""Runs Faust around one worker, together with its watchdog and its position commits."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, Final

import structlog

from runtime.command_line import FAILURE
from runtime.kafka.protocols import TopicPartition
from runtime.kafka.reader import end_offsets
from runtime.process import ServiceProcess
from schemas.errors import FatalError
from stream_features.host.growth import Growth
from stream_features.worker.cycle import Worker
from stream_features.worker.warm_up import warm_up
from stream_features.worker.watchdog import Watchdog

log = structlog.get_logger(__name__)
STOP_S: Final = 3.0
"""A slower stop is cut off; the next owner repeats the uncommitted work."""
COMMIT_EVERY_S: Final = 1.0
WATCH_EVERY_S: Final = 5.0
LOOK_EVERY_S: Final = 0.1
"""How often the host checks whether it must end."""


class Host:
    """Runs the Faust application of one worker."""

    def __init__(self, process: ServiceProcess, worker: Worker, data_dir: Path) -> None:
        self._process, self._worker, self._data_dir = process, worker, data_dir
        self._metrics = process.metrics
        self._growth = Growth(worker.partitions, process.metrics)
        self._app: Any = None
        self._trouble = ""
        self.must_start_anew = False
        """True when the process can make no progress and must be replaced by a new one."""

    def not_ready(self) -> str:
        """Return "" while the worker serves, otherwise the reason why not."""
        return self._worker.not_ready() or self._trouble

    def ends(self) -> dict[TopicPartition, int]:
        """Ask the broker for the log ends of both topics, as far as they are served. Blocks."""
        found = {}
        for topic in sorted(self._worker.topics):
            ends = end_offsets(self._process.settings, topic)
            self._growth.look(topic, len(ends))
            for number, end in ends.items():
                if number < self._worker.partitions:
                    found[TopicPartition(topic, number)] = end
        return found

    def fetched(self) -> dict[TopicPartition, int]:
        """Return the next offset to read of each partition."""
        return {TopicPartition(*at): n for at, n in self._app.consumer.fetched().items()}

    async def serve(self, watchdog: Watchdog) -> None:
        """Run until the process is asked to stop or `must_start_anew` is set.

        Raises:
            FatalError: the worker cannot go on.
        """
        from stream_features.host.app import build_app

        if self._process.stop:
            return
        settings = self._process.settings
        warming = asyncio.create_task(asyncio.to_thread(warm_up, settings))
        self._app = build_app(settings, self._worker, self._data_dir)
        beside: list[asyncio.Task[None]] = []
        try:
            await self._app.start()
            await warming
            self._process.started(self.not_ready, pid=os.getpid(), worker=settings.worker_id)
            beside = [
                asyncio.create_task(self._commit_positions()),
                asyncio.create_task(self._watch(watchdog)),
            ]
            await self._ended(beside)
        finally:
            for task in beside:
                task.cancel()
            await self._leave()
        if self._worker.failure is not None and not self.must_start_anew:
            raise FatalError(str(self._worker.failure)) from self._worker.failure

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(STOP_S):
                await self._worker.revoked()
                await self._app.stop()
        except TimeoutError:
            log.warning("stop cut off", seconds=STOP_S)
            os._exit(0 if self._process.stop else FAILURE)  # a thread waits for Kafka or Redis

    async def _ended(self, beside: list[asyncio.Task[None]]) -> None:
        """Return when asked to stop, or when the worker, Faust or a task has failed."""
        while not (self._process.stop or self.must_start_anew or self._worker.failure):
            if self._app.should_stop:
                log.error("Faust has stopped", reason=repr(self._app.crash_reason))
                self.must_start_anew = True
                return
            for task in beside:
                if task.done():
                    task.result()
            await asyncio.sleep(LOOK_EVERY_S)

    async def _commit_positions(self) -> None:
        """Commit the worker's positions to Kafka and update the gauges, once a second."""
        committed: dict[TopicPartition, int] = {}
        while True:
            await asyncio.sleep(COMMIT_EVERY_S)
            self._metrics.set("ready", 0 if self._process.not_ready() else 1)
            self._metrics.set("partitions", len(self._worker.epochs))
            self._metrics.set("buffered", self._worker.buffered)
            cursors = {
                at: n for at, n in self._worker.cursors.items() if n >= 0 and committed.get(at) != n
            }
            if cursors:
                await self._app.consumer.commit_positions(cursors)
                committed.update(cursors)

    async def _watch(self, watchdog: Watchdog) -> None:
        """Check every five seconds that Kafka and Redis answer and that the worker gets on."""
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            stalled = await asyncio.to_thread(watchdog.look)
            self._trouble = watchdog.unreachable or watchdog.store_fault
            if stalled:
                log.error("no progress: this process restarts", partitions=stalled)
                self.must_start_anew = True
                return
