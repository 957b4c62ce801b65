"""The process `python -m scorer run`."""

from __future__ import annotations

from contextlib import ExitStack, closing

from runtime.kafka.clients import KafkaConsumer, KafkaProducer
from runtime.kafka.protocols import Producer
from runtime.kafka.reader import KafkaReader, read_tail
from runtime.process import ServiceProcess
from runtime.settings import Settings
from schemas.codec import avro
from schemas.records import Alert
from schemas.topics import ALERTS, DEAD_LETTER, DECISIONS, FEATURES, MODELS, POLICY
from scorer.service import GROUP, SERVICE, TAIL_MESSAGES, Scorer
from scorer.serving import ServingFollower
from scorer.warm_up import warm_up


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Call this from the main thread."""
    with ServiceProcess(SERVICE, settings, low_latency=True) as process:
        warm_up()
        process.create_topics()
        producer = process.keep(KafkaProducer(settings))
        follower = process.patiently(lambda: _follow(process, producer))
        process.parts.callback(follower.stop)
        decisions = settings.topic(DECISIONS)
        scorer = Scorer(
            producer=producer,
            decisions=decisions,
            dead_letter=settings.topic(DEAD_LETTER),
            serving=lambda: follower.serving,
            tail=lambda partition: read_tail(settings, decisions, partition, TAIL_MESSAGES),
            clock=process.clock,
            metrics=process.metrics,
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

        process.started(not_ready, follower.dead, worker=settings.worker_id)
        scorer.run(join, process.stop)


def _follow(process: ServiceProcess, producer: Producer) -> ServingFollower:
    """Return a follower of `models` and `policy` that has read both topics to their end."""
    settings = process.settings
    alerts = settings.topic(ALERTS)

    def alert(record: Alert) -> None:
        producer.produce(alerts, record["rule"].encode(), avro.encode("Alert", record))

    with ExitStack() as opened:
        models, policy = (
            opened.enter_context(closing(KafkaReader(settings, settings.topic(topic))))
            for topic in (MODELS, POLICY)
        )
        follower = ServingFollower(
            models,
            policy,
            alert=alert,
            metrics=process.metrics,
            clock=process.clock,
            trust=settings.bundle_trust,
        )
        follower.start()
        opened.pop_all()
    return follower
