"""Assembles the stream processor from the settings."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from runtime.clock import Clock, SystemClock
from runtime.feature_store.protocol import FeatureStore
from runtime.kafka.protocols import Producer, TopicPartition
from runtime.kafka.reader import committed_offsets
from runtime.kafka.wire_format import ConfluentRegistry
from runtime.metrics import Metrics
from runtime.settings import Settings
from schemas.topics import DEAD_LETTER, FEATURES, LABELS, TRANSACTIONS
from stream_features.engine.live import LiveEngine
from stream_features.worker.commits import Commits, CommittedPositions, WorkerTopics, entity_ttl_ms
from stream_features.worker.computation import Computation, EngineComputation
from stream_features.worker.cycle import Worker
from stream_features.worker.stages import StageTimers
from stream_features.worker.watermark_alignment import WatermarkAlignment

GROUP: Final = "stream-features"


def topics_of(settings: Settings) -> WorkerTopics:
    """Return the full names of the topics that the worker uses."""
    return WorkerTopics(
        transactions=settings.topic(TRANSACTIONS),
        labels=settings.topic(LABELS),
        features=settings.topic(FEATURES),
        dead_letter=settings.topic(DEAD_LETTER),
        partitions=settings.partitions,
    )


def group_positions(settings: Settings) -> CommittedPositions:
    """Return a function that asks Kafka for the group's positions of some partition numbers."""
    topics = topics_of(settings)

    def positions(numbers: Sequence[int]) -> dict[TopicPartition, int]:
        places = [
            TopicPartition(topic, number)
            for topic in (topics.transactions, topics.labels)
            for number in numbers
        ]
        return committed_offsets(settings, settings.group(GROUP), places)

    return positions


def build_computation(
    settings: Settings, store: FeatureStore, metrics: Metrics, stages: StageTimers, clock: Clock
) -> EngineComputation:
    """Return the computation (decoder, engine and encoder) that the settings describe."""
    topics = topics_of(settings)
    return EngineComputation(
        transactions=topics.transactions,
        labels=topics.labels,
        partitions=topics.partitions,
        store=store,
        engine=LiveEngine(prefix=settings.key_prefix, label_delay_ms=settings.label_delay.ms),
        currencies=settings.currencies,
        clock=clock,
        now_us=lambda: time.time_ns() // 1_000,
        metrics=metrics,
        stages=stages,
        pan_key=settings.pan_key,
        registry=ConfluentRegistry.from_settings(settings),
    )


def build_worker(
    settings: Settings,
    store: FeatureStore,
    producer: Producer,
    metrics: Metrics,
    *,
    name: str,
    positions: CommittedPositions,
    around: Callable[[Computation], Computation] = lambda inner: inner,
) -> Worker:
    """Return a worker. `name` must be unique among all workers; `around` wraps its computation."""
    clock, stages = SystemClock(), StageTimers(metrics)
    topics = topics_of(settings)
    return Worker(
        topics=topics,
        commits=Commits(
            topics=topics,
            store=store,
            producer=producer,
            positions=positions,
            metrics=metrics,
            stages=stages,
            ttl_ms=entity_ttl_ms(settings.label_delay.ms),
        ),
        computation=around(build_computation(settings, store, metrics, stages, clock)),
        alignment=WatermarkAlignment(store, name, settings.partitions, time.monotonic),
        clock=clock,
        monotonic=time.monotonic,
        metrics=metrics,
        stages=stages,
    )
