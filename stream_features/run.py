"""The process `python -m stream_features run`: starts the parts, waits for the end, stops in order."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import structlog

from schemas.runtime.feature_store import RedisFeatureStore
from schemas.runtime.health import HealthServer
from schemas.runtime.kafka import KafkaProducer
from schemas.runtime.logs import configure_logging
from schemas.runtime.metrics import Metrics
from schemas.runtime.settings import Settings
from schemas.runtime.topic_admin import create_topics
from stream_features.dead_letters import SERVICE
from stream_features.service import build_worker, group_positions
from stream_features.worker import Worker

log = structlog.get_logger(__name__)
FAILED: Final = 1
STOP_S: Final = 4.0
"""A stop that takes longer is cut off: what is not committed is done again by the next owner."""
COMMIT_EVERY_S: Final = 1.0


def run(settings: Settings, *, from_start: bool = False) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. Call it in the main thread."""
    configure_logging(settings, SERVICE)
    metrics = Metrics(SERVICE)
    with ExitStack() as parts:
        store = RedisFeatureStore.from_settings(settings)
        parts.callback(store.close)
        create_topics(settings)
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
        if settings.health_port:
            parts.enter_context(
                HealthServer(
                    settings.health_port, metrics, worker.not_ready, host=settings.health_host
                )
            )
        data_dir = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="faust-")))
        return asyncio.run(_serve(settings, worker, metrics, data_dir))


async def _serve(settings: Settings, worker: Worker, metrics: Metrics, data_dir: Path) -> int:
    from stream_features.app import build_app

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    app = build_app(settings, worker, data_dir)
    await app.start()
    log.info("started", pid=os.getpid(), worker=settings.worker_id)
    follow = asyncio.create_task(_follow(app, worker, metrics))
    ended = asyncio.create_task(_ended(stop, app, worker))
    await asyncio.wait({follow, ended}, return_when=asyncio.FIRST_COMPLETED)
    follow.cancel()
    try:
        async with asyncio.timeout(STOP_S):
            await worker.revoked()
            await app.stop()
    except TimeoutError:
        log.warning("stop cut off", seconds=STOP_S)
    if ended.done() and stop.is_set() and worker.failure is None:
        log.info("stopped")
        return 0
    return FAILED


async def _ended(stop: asyncio.Event, app: Any, worker: Worker) -> None:
    while not (stop.is_set() or worker.failure is not None or app.should_stop):
        try:
            async with asyncio.timeout(0.2):
                await stop.wait()
        except TimeoutError:
            continue


async def _follow(app: Any, worker: Worker, metrics: Metrics) -> None:
    """Once a second: Kafka's committed positions and the gauges follow the worker."""
    committed: dict[Any, int] = {}
    while True:
        await asyncio.sleep(COMMIT_EVERY_S)
        cursors = {at: n for at, n in worker.cursors.items() if n >= 0 and committed.get(at) != n}
        metrics.set("ready", 0 if worker.not_ready() else 1)
        if cursors:
            await app.consumer.commit_positions(cursors)
            committed.update(cursors)
