"""The process `python -m scorer run`: puts the parts together and stops them in order."""

from __future__ import annotations

import gc
import sys
from contextlib import ExitStack, closing
from typing import Final

import structlog

from runtime.clock import SystemClock
from runtime.health import HealthServer
from runtime.kafka.clients import KafkaConsumer, KafkaProducer
from runtime.kafka.reader import KafkaReader, read_tail
from runtime.kafka.topic_admin import create_topics
from runtime.logs import configure_logging
from runtime.metrics import Metrics
from runtime.process import StopSignal, patiently
from runtime.settings import Settings
from schemas.codec import avro
from schemas.errors import FatalError
from schemas.records import Alert
from schemas.topics import ALERTS, DEAD_LETTER, DECISIONS, FEATURES, MODELS, POLICY
from scorer.service import GROUP, SERVICE, TAIL, Scorer
from scorer.serving import Follower
from scorer.warm_up import warm_up

log = structlog.get_logger(__name__)
FAILED: Final = 1
SWITCH_S: Final = 0.0005
"""How long another thread may keep the interpreter: with Python's 5 ms, a scrape delays answers."""


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. Call it in the main thread."""
    configure_logging(settings, SERVICE)
    sys.setswitchinterval(SWITCH_S)
    stop = StopSignal()
    metrics, clock = Metrics(SERVICE), SystemClock()
    with ExitStack() as parts:
        warm_up()
        patiently(lambda: create_topics(settings, timeout_s=3.0), stop)
        producer = KafkaProducer(settings)
        parts.callback(producer.close)
        alerts = settings.topic(ALERTS)

        def alert(record: Alert) -> None:
            producer.produce(alerts, record["rule"].encode(), avro.encode("Alert", record))

        def follow() -> Follower:
            with ExitStack() as opened:
                readers = [
                    opened.enter_context(closing(KafkaReader(settings, settings.topic(topic))))
                    for topic in (MODELS, POLICY)
                ]
                key = settings.bundle_public_key
                follower = Follower(
                    *readers,
                    alert=alert,
                    metrics=metrics,
                    clock=clock,
                    public_key=bytes.fromhex(key) if key else None,
                )
                follower.start()
                opened.pop_all()
            return follower

        follower = patiently(follow, stop)
        parts.callback(follower.stop)
        decisions = settings.topic(DECISIONS)
        scorer = Scorer(
            producer=producer,
            decisions=decisions,
            dead_letter=settings.topic(DEAD_LETTER),
            serving=lambda: follower.serving,
            tail=lambda partition: read_tail(settings, decisions, partition, TAIL),
            clock=clock,
            metrics=metrics,
        )

        def join() -> KafkaConsumer:
            return KafkaConsumer(
                settings,
                settings.group(GROUP),
                [settings.topic(FEATURES)],
                on_assign=scorer.assigned,
                on_revoke=scorer.revoked,
                instance_id=settings.worker_id,
            )

        def not_ready() -> str:
            return scorer.waiting_for or ("" if scorer.partitions else "no partitions yet")

        if settings.health_port:
            parts.enter_context(
                HealthServer(
                    settings.health_port,
                    metrics,
                    not_ready,
                    follower.dead,
                    settings.health_host,
                )
            )
        gc.freeze()  # a collection would look through all that was imported: 100 ms
        log.info("started", worker=settings.worker_id)
        try:
            scorer.run(join, stop)
        except FatalError as error:
            log.error("cannot go on", reason=str(error))
            return FAILED
    log.info("stopped")
    return 0
