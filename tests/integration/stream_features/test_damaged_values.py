"""Damaged values in a real Redis: they are refused, told of, kept aside and replaced."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from devstack.stack import Stack
from runtime.clock import SystemClock
from runtime.feature_store.protocol import Commit
from runtime.feature_store.redis import RedisFeatureStore
from runtime.metrics import Metrics, read_exposition
from runtime.settings import Settings, load_settings
from schemas.codec import avro
from schemas.errors import UnreadableValue
from schemas.keys import EntityKind, entity_key, hash_id
from stream_features.engine.state.blob import NEW_SHARED
from stream_features.operate.show import read_state
from stream_features.operate.store_size import store_size
from stream_features.worker.assembly import build_computation
from stream_features.worker.computation import EngineComputation
from stream_features.worker.stages import StageTimers
from tests.support.stream_features.stand_ins import Record

START = 1_700_000_000_000
WEEK = 7 * 86_400_000
IDS: dict[EntityKind, str] = {"card": "c", "merchant": "m", "device": "d", "ip": "192.0.2.1"}


@pytest.fixture
def settings(stack: Stack) -> Settings:
    return load_settings(
        bootstrap=stack.bootstrap, redis_url=stack.redis_url, topic_prefix=uuid.uuid4().hex
    )


@pytest.fixture
def store(settings: Settings) -> Iterator[RedisFeatureStore]:
    made = RedisFeatureStore.from_settings(settings)
    yield made
    made.close()


class Processor:
    """Decodes, computes and commits one transaction at a time, as a worker does."""

    def __init__(self, settings: Settings, store: RedisFeatureStore) -> None:
        self.store, self.metrics, self._count = store, Metrics("stream_features"), 0
        self._computation: EngineComputation = build_computation(
            settings, store, self.metrics, StageTimers(self.metrics), SystemClock()
        )
        self._epoch = store.acquire(0).epoch

    def process(self) -> None:
        """Process a transaction of all the entities."""
        self._count += 1
        event: dict[str, Any] = {
            "transaction_id": str(self._count),
            "event_time": START + self._count,
            "card_id": IDS["card"],
            "merchant_id": IDS["merchant"],
            "device_id": IDS["device"],
            "ip": IDS["ip"],
            "amount": 100,
            "currency": "EUR",
        }
        record = Record("t", 0, self._count, avro.encode("Transaction", event))
        computed = self._computation.transactions(self._computation.decode({0: [record]}))
        answer = self.store.commit(
            Commit(
                epochs={0: self._epoch},
                cards=computed.cards,
                appends=computed.appends,
                folds=computed.folds,
                header=NEW_SHARED,
            )
        )
        assert answer.accepted

    def refused(self) -> dict[str, float]:
        """Return how many values of each kind were refused."""
        series = read_exposition(self.metrics.exposition().decode())
        return {
            labels["kind"]: value
            for name, labels, value in series
            if name == "fraud_stored_values_refused_total"
        }


@pytest.mark.parametrize("bad", [b"x", b"OK, but not ours" * 9, NEW_SHARED + b"cut"], ids=repr)
def test_damaged_values_are_refused_once_and_kept(
    settings: Settings, store: RedisFeatureStore, bad: bytes
) -> None:
    prefix = settings.key_prefix
    keys = {kind: entity_key(prefix, kind, hash_id(name)) for kind, name in IDS.items()}
    processor = Processor(settings, store)
    for _ in range(3):
        processor.process()
    store.commit(Commit(epochs={0: processor._epoch}, cards=[(key, bad) for key in keys.values()]))
    assert {kind: size["damaged"] for kind, size in store_size(store).items()} == dict.fromkeys(
        IDS, 1
    )
    for kind, name in IDS.items():
        with pytest.raises(UnreadableValue, match=rf"\({kind}, {len(bad)} bytes\) cannot be read"):
            read_state(store, prefix, kind, name, WEEK)
    with structlog.testing.capture_logs() as lines:
        processor.process()
        processor.process()
    assert [line["kind"] for line in lines] == list(IDS)
    assert processor.refused() == dict.fromkeys(IDS, 1)
    for kind, name in IDS.items():
        state = read_state(store, prefix, kind, name, WEEK)
        assert state is not None
        assert state.exact == 2, "the entity started anew"
        [kept] = store.load([prefix + b"refused:" + keys[kind].removeprefix(prefix)])
        assert kept == bad
    assert {size["damaged"] for size in store_size(store).values()} == {0}
