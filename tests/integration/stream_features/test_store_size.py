"""Bytes an entity on a real Redis, and the batch cycle that is timed over it."""

from __future__ import annotations

import uuid

import numpy as np
import pytest

from devstack.stack import Stack
from runtime.feature_store.protocol import Commit
from runtime.feature_store.redis import RedisFeatureStore
from schemas.columns import TransactionColumns, empty_columns
from schemas.errors import ConfigurationError
from schemas.features import DAY
from stream_features.engine.live import LiveEngine
from stream_features.engine.state.blob import NEW_SHARED
from stream_features.operate.benchmark import STAGES, measure_cycle
from stream_features.operate.store_size import store_size

START = 1_700_000_000_000
HOT, CARDS, EVENTS = 2**63 + 5, 400, 60


def month() -> TransactionColumns:
    """60 events of each of 400 cards in 30 days, every field given; half at one hot merchant.

    Of 20 further cards, merchants, devices and addresses each is seen once.
    """
    random = np.random.default_rng(1)
    rows = CARDS * EVENTS
    # A card has its shops, phone and address; hashes fill all 64 bits.
    hashes = random.integers(2**40, 2**64 - 1, 4_000, np.uint64)
    owner = np.repeat(np.arange(CARDS), EVENTS)
    merchant = hashes[(owner * 7 + random.integers(0, 20, rows)) % 4_000]
    merchant[random.random(rows) < 0.5] = HOT
    time = START + random.integers(0, 30 * DAY, rows)
    card, device = hashes[owner], hashes[owner + 500]
    ip = hashes[1_000 + random.integers(0, 300, rows)]
    for column in (card, merchant, device, ip):
        column[:20] = random.integers(2**40, 2**64 - 1, 20, np.uint64)
    order = np.argsort(time)
    return empty_columns(rows)._replace(
        time=time[order],
        amount=random.integers(100, 50_000, rows),
        transaction=random.integers(1, 2**64 - 1, rows, np.uint64),
        card=card[order],
        merchant=merchant[order],
        device=device[order],
        ip=ip[order],
        position=merchant[order],
        mcc=(merchant[order] % np.uint64(9_000)).astype(np.int32),
        merchant_country=np.full(rows, 0x4445, np.uint16),
    )


def test_entities_are_as_small_as_promised(stack: Stack) -> None:
    prefix = uuid.uuid4().hex[:8].encode()
    store, engine = RedisFeatureStore(stack.redis_url, prefix), LiveEngine(prefix=prefix)
    epoch, columns = store.acquire(0).epoch, month()
    for first in range(0, columns.rows, 200):
        batch = columns.cut(first, first + 200)
        opened = engine.open(batch)
        result = engine.process(batch, opened, store.load(opened.keys))
        assert store.commit(
            Commit(
                epochs={0: epoch},
                cards=result.cards,
                appends=result.appends,
                folds=result.folds,
                header=NEW_SHARED,
            )
        ).accepted
    found = store_size(store)
    store.close()
    assert found["card"]["entities"] == CARDS + 20
    assert found["card"]["about_60_events_max_bytes"] <= 2_560
    for kind, figures in found.items():
        assert figures["once_max_bytes"] <= 250, kind
        assert figures["max_bytes"] <= 6_144, kind
    assert found["merchant"]["max_bytes"] > 2_000  # the hot one has its tiles


def test_the_cycle_is_timed_by_stage(stack: Stack) -> None:
    def connect(prefix: bytes) -> RedisFeatureStore:
        return RedisFeatureStore(stack.redis_url, prefix)

    report, costs = measure_cycle(month().cut(0, 3_000), connect, cycles={1: 3, 64: 2})
    assert [found["batch"] for found in report] == [1, 64]
    for found in report:
        assert tuple(found["stages_us"]) == STAGES
        assert found["throughput_per_s"] > 0
        assert all(time > 0 for time in found["stages_us"].values())
    assert set(costs) == {"card", "merchant", "device", "ip"}
    assert all(cost["values"] > 100 and cost["check_ns"] > 0 for cost in costs.values())
    with pytest.raises(ConfigurationError, match="too few"):
        measure_cycle(month().cut(0, 100), connect)
