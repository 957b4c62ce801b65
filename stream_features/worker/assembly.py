"""The parts of the stream processor, put together from the settings. `run` and `rebuild` call it."""

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
from schemas.currency import CurrencyTable
from schemas.topics import DEAD_LETTER, FEATURES, LABELS, TRANSACTIONS
from stream_features.engine.live import LiveEngine
from stream_features.worker.commits import Commits, Positions, Topics, life_ms
from stream_features.worker.computation import Computation, EngineComputation
from stream_features.worker.cycle import Worker
from stream_features.worker.stages import Stages
from stream_features.worker.watermark_alignment import Pace

GROUP: Final = "stream-features"


def topics_of(settings: Settings) -> Topics:
    """Return the full names of the worker's topics."""
    return Topics(
        transactions=settings.topic(TRANSACTIONS),
        labels=settings.topic(LABELS),
        features=settings.topic(FEATURES),
        dead_letter=settings.topic(DEAD_LETTER),
    )


def group_positions(settings: Settings) -> Positions:
    """Return a function from partition numbers to the positions that Kafka has for the group."""
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
    settings: Settings, store: FeatureStore, metrics: Metrics, stages: Stages, clock: Clock
) -> EngineComputation:
    """Return decoder, engine and encoder as the settings want them."""
    topics = topics_of(settings)
    return EngineComputation(
        transactions=topics.transactions,
        labels=topics.labels,
        store=store,
        engine=LiveEngine(prefix=settings.key_prefix, label_delay_ms=settings.label_delay.ms),
        currencies=CurrencyTable(settings.base_currency, settings.currency_rates),
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
    positions: Positions,
    around: Callable[[Computation], Computation] = lambda inner: inner,
) -> Worker:
    """Return a worker; `name` is unique among those that run, `around` wraps its computation."""
    clock, stages = SystemClock(), Stages(metrics)
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
            ttl_ms=life_ms(settings.label_delay.ms),
        ),
        computation=around(build_computation(settings, store, metrics, stages, clock)),
        pace=Pace(store, name, settings.partitions, time.monotonic),
        clock=clock,
        monotonic=time.monotonic,
        metrics=metrics,
        stages=stages,
    )
