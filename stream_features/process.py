"""The process behind `python -m stream_features run`."""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory

from runtime.feature_store.redis import RedisFeatureStore
from runtime.feature_store.redis_server import ServerWatch
from runtime.kafka.clients import KafkaProducer
from runtime.process import START_ANEW, ServiceProcess
from runtime.settings import Settings
from schemas.dead_letters import SERVICE
from schemas.errors import StoreUnavailable
from stream_features.host.host import Host
from stream_features.worker.assembly import build_worker, group_positions
from stream_features.worker.watchdog import STALL_S, Watchdog


def run(
    settings: Settings, *, from_start: bool = False, stall_s: float = STALL_S, restarts: int = 0
) -> int:
    """Serve until SIGTERM or SIGINT; return 0 or START_ANEW. Call it in the main thread.

    Waits for Kafka and Redis if they do not answer yet.

    Raises:
        ConfigurationError: Kafka or Redis refuses the settings, or Redis would not keep the state.
    """
    with ServiceProcess(SERVICE, settings, low_latency=True) as process:
        process.metrics.count("restarts", restarts)
        store = process.keep(RedisFeatureStore.from_settings(settings))
        producer = process.keep(KafkaProducer(settings))
        worker = build_worker(
            settings,
            store,
            producer,
            process.metrics,
            name=settings.worker_id or uuid.uuid4().hex,
            positions=(lambda _: {}) if from_start else group_positions(settings),
        )
        process.create_topics()
        server = ServerWatch(store, process.metrics)
        process.patiently(server.check, StoreUnavailable)
        process.waiting_for = "the kernels are being loaded"
        data_dir = Path(process.parts.enter_context(TemporaryDirectory(prefix="faust-")))
        host = Host(process, worker, data_dir)
        watchdog = Watchdog(
            worker,
            look_at_store=server.look,
            ends=host.ends,
            fetched=host.fetched,
            metrics=process.metrics,
            monotonic=time.monotonic,
            stall_s=stall_s,
        )
        asyncio.run(host.serve(watchdog))
    return START_ANEW if host.must_start_anew else 0
