"""Loads the compiled kernels before the first record arrives, which takes about two seconds.

On a machine without cached kernels it compiles them and fills the cache.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from runtime.clock import SystemClock
from runtime.feature_store.memory import MemoryFeatureStore
from runtime.feature_store.protocol import Commit
from runtime.kafka.partitioner import partition_of
from runtime.metrics import Metrics
from runtime.settings import Settings
from schemas.codec import avro
from schemas.records import Label, Transaction
from stream_features.engine.state.blob import NEW_SHARED
from stream_features.worker.arrival_times import BY_BROKER
from stream_features.worker.assembly import build_computation
from stream_features.worker.ordering import merge_by_heads
from stream_features.worker.stages import StageTimers


class _Record(NamedTuple):
    partition: int
    offset: int
    timestamp: int
    key: bytes
    value: bytes
    timestamp_type: int = BY_BROKER


def warm_up(settings: Settings) -> None:
    """Run two transactions and a label through the computation, with a store in memory."""
    store, metrics = MemoryFeatureStore(), Metrics("warm-up")
    clock = SystemClock()
    computation = build_computation(settings, store, metrics, StageTimers(metrics), clock)
    place = partition_of(b"card", settings.partitions)
    epoch = store.acquire(place).epoch
    now = clock.now_ms()
    for number in range(2):
        transaction: Transaction = {
            "transaction_id": str(number),
            "event_time": now,
            "card_id": "card",
            "merchant_id": "merchant",
            "amount": 100,
            "currency": settings.base_currency,
            "device_id": "device",
            "ip": "192.0.2.1",
        }
        record = _Record(place, number, now, b"card", avro.encode("Transaction", transaction))
        batch = computation.decode({place: [record]})
        merge_by_heads(batch.time, batch.ids, batch.partition, np.zeros(1, np.bool_))
        computed = computation.transactions(batch)
        store.commit(
            Commit(
                epochs={place: epoch},
                cards=computed.cards,
                appends=computed.appends,
                folds=computed.folds,
                header=NEW_SHARED,
            )
        )
    label: Label = {
        "transaction_id": "0",
        "card_id": "card",
        "label": "FRAUD",
        "transaction_time": now,
        "label_time": now,
    }
    computation.labels([_Record(place, 0, now, b"card", avro.encode("Label", label))])
