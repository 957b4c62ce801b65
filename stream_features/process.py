"""The process `python -m stream_features run`: starts the parts, waits for the end, stops in order."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import structlog

from runtime.feature_store.redis import RedisFeatureStore
from runtime.health import HealthServer
from runtime.kafka.clients import KafkaProducer
from runtime.kafka.protocols import TopicPartition
from runtime.kafka.reader import end_offsets
from runtime.kafka.topic_admin import create_topics
from runtime.logs import configure_logging
from runtime.metrics import Metrics
from runtime.process import StopSignal
from runtime.settings import Settings
from schemas.dead_letters import SERVICE
from schemas.errors import TemporaryError
from stream_features.worker.assembly import build_worker, group_positions
from stream_features.worker.cycle import Worker
from stream_features.worker.warm_up import warm_up
from stream_features.worker.watchdog import STALL_S, Watchdog

log = structlog.get_logger(__name__)
FAILED: Final = 1
ANEW: Final = 75
"""Exit code of a process that must be started again (EX_TEMPFAIL of sysexits.h)."""
STOP_S: Final = 3.0
"""A stop that takes longer is cut off: what is not committed is done again by the next owner."""
SWITCH_S: Final = 0.0005
"""How long a thread may keep the interpreter: with Python's 5 ms, a batch waits for it at each step."""
COMMIT_EVERY_S: Final = 1.0
LOOK_EVERY_S: Final = 5.0


class Readiness:
    """Why the process does not serve, or ""; the health server asks."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.starting = "starting"
        self.unreachable = ""

    def __call__(self) -> str:
        """Return the reason."""
        return self.starting or self._worker.not_ready() or self.unreachable


def run(
    settings: Settings, *, from_start: bool = False, stall_s: float = STALL_S, restarts: int = 0
) -> int:
    """Serve until SIGTERM or SIGINT; return 0, FAILED or ANEW. Call it in the main thread.

    Waits for a Kafka or Redis that does not answer yet.

    Raises:
        ConfigurationError: Kafka or Redis refuse the settings.
    """
    configure_logging(settings, SERVICE)
    sys.setswitchinterval(SWITCH_S)
    stop = StopSignal()
    metrics = Metrics(SERVICE)
    metrics.count("restarts", restarts)
    with ExitStack() as parts:
        store = RedisFeatureStore.from_settings(settings)
        parts.callback(store.close)
        producer = KafkaProducer(settings)
        parts.callback(producer.close)
        worker = build_worker(
            settings,
            store,
            producer,
            metrics,
            name=settings.worker_id or uuid.uuid4().hex,
            positions=(lambda _: {}) if from_start else group_positions(settings),
        )
        ready = Readiness(worker)
        if settings.health_port:
            parts.enter_context(
                HealthServer(settings.health_port, metrics, ready, host=settings.health_host)
            )
        if not _topics_created(settings, ready, stop):
            return 0
        data_dir = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="faust-")))
        host = _Host(settings, worker, ready, metrics, data_dir)
        watchdog = Watchdog(
            worker,
            ping=store.ping,
            ends=host.ends,
            fetched=host.fetched,
            metrics=metrics,
            monotonic=time.monotonic,
            stall_s=stall_s,
        )
        return asyncio.run(host.serve(watchdog, stop))


def _topics_created(settings: Settings, ready: Readiness, stop: StopSignal) -> bool:
    """Wait for Kafka and create the topics; False if asked to stop meanwhile."""
    while not stop:
        try:
            create_topics(settings, timeout_s=3.0)
        except TemporaryError as error:
            ready.starting = str(error)
            log.warning("waiting for Kafka", reason=str(error))
            stop.wait(0.5)
        else:
            ready.starting = "the kernels are being loaded"
            return True
    return False


class _Host:
    """The Faust application of one worker, and what goes on beside it."""

    def __init__(
        self,
        settings: Settings,
        worker: Worker,
        ready: Readiness,
        metrics: Metrics,
        data_dir: Path,
    ) -> None:
        self._settings, self._worker, self._ready = settings, worker, ready
        self._metrics, self._data_dir = metrics, data_dir
        self._app: Any = None
        self._stop = asyncio.Event()
        self._anew = False

    def ends(self) -> dict[TopicPartition, int]:
        """Return the broker's log ends of both topics; blocks."""
        return {
            TopicPartition(topic, number): end
            for topic in self._worker.topics
            for number, end in end_offsets(self._settings, topic).items()
        }

    def fetched(self) -> dict[TopicPartition, int]:
        """Return how far each partition was read."""
        return {TopicPartition(*at): n for at, n in self._app.consumer.fetched().items()}

    async def serve(self, watchdog: Watchdog, stop: StopSignal) -> int:
        """Run until a signal, a failure or a stall; return the exit code.

        `stop` tells of a signal that came before.
        """
        from stream_features.host.app import build_app

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        if stop:
            return 0
        warming = asyncio.create_task(asyncio.to_thread(warm_up, self._settings))
        self._app = build_app(self._settings, self._worker, self._data_dir)
        beside: list[asyncio.Task[None]] = []
        try:
            await self._app.start()
            await warming
            self._ready.starting = ""
            log.info("started", pid=os.getpid(), worker=self._settings.worker_id)
            beside = [
                asyncio.create_task(self._follow()),
                asyncio.create_task(self._watch(watchdog)),
            ]
            await self._ended(beside)
        finally:
            for task in beside:
                task.cancel()
            await self._leave()
        if self._anew:
            return ANEW
        if self._worker.failure is None and self._stop.is_set():
            log.info("stopped")
            return 0
        return FAILED

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(STOP_S):
                await self._worker.revoked()
                await self._app.stop()
        except TimeoutError:
            log.warning("stop cut off", seconds=STOP_S)
            os._exit(0 if self._stop.is_set() else FAILED)  # a thread waits for Kafka or Redis

    async def _ended(self, beside: list[asyncio.Task[None]]) -> None:
        """Return when asked to stop, or when something cannot go on."""
        while not (self._stop.is_set() or self._anew or self._worker.failure is not None):
            if self._app.should_stop:
                log.error("Faust has stopped", reason=repr(self._app.crash_reason))
                self._anew = True
                return
            for task in beside:
                if task.done():
                    task.result()
            try:
                async with asyncio.timeout(0.2):
                    await self._stop.wait()
            except TimeoutError:
                continue

    async def _follow(self) -> None:
        """Once a second: Kafka's committed positions and the gauges follow the worker."""
        committed: dict[TopicPartition, int] = {}
        while True:
            await asyncio.sleep(COMMIT_EVERY_S)
            self._metrics.set("ready", 0 if self._ready() else 1)
            self._metrics.set("partitions", len(self._worker.epochs))
            self._metrics.set("buffered", self._worker.buffered)
            cursors = {
                at: n for at, n in self._worker.cursors.items() if n >= 0 and committed.get(at) != n
            }
            if cursors:
                await self._app.consumer.commit_positions(cursors)
                committed.update(cursors)

    async def _watch(self, watchdog: Watchdog) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            stalled = await asyncio.to_thread(watchdog.look)
            self._ready.unreachable = watchdog.unreachable
            if stalled:
                log.error("no progress: this process starts anew", partitions=stalled)
                self._anew = True
                return
