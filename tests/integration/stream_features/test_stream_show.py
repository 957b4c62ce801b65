"""`show`: what it says of an entity is what was put in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from devstack.stack import Stack
from runtime.clock import SystemClock
from runtime.feature_store.protocol import Commit
from runtime.feature_store.redis import RedisFeatureStore
from runtime.metrics import Metrics
from runtime.settings import Settings, load_settings
from schemas.codec import avro
from schemas.features import DAY
from stream_features.engine.state.blob import NEW_SHARED
from stream_features.engine.state.entities import SHARED_EVENTS
from stream_features.operate.show import read_state
from stream_features.worker.assembly import build_computation
from stream_features.worker.stages import StageTimers
from tests.support.stream_features.stand_ins import Record

HOUR_MS = 3_600_000
START = 1_700_000_000_000


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


def put(settings: Settings, store: RedisFeatureStore, events: list[dict[str, Any]]) -> None:
    metrics = Metrics("test")
    computation = build_computation(settings, store, metrics, StageTimers(metrics), SystemClock())
    records = [
        Record("t", 0, number, avro.encode("Transaction", event), timestamp=event["event_time"])
        for number, event in enumerate(events)
    ]
    computed = computation.transactions(computation.decode({0: records}))
    store.commit(
        Commit(
            epochs={0: store.acquire(0).epoch},
            cards=computed.cards,
            appends=computed.appends,
            folds=computed.folds,
            header=NEW_SHARED,
        )
    )


def event(number: int, hours: float, amount: int, **fields: Any) -> dict[str, Any]:
    return {
        "transaction_id": str(number),
        "event_time": START + round(hours * HOUR_MS),
        "card_id": "c",
        "merchant_id": "m",
        "amount": amount,
        "currency": "EUR",
        **fields,
    }


def test_counts_sums_and_recent_events(settings: Settings, store: RedisFeatureStore) -> None:
    put(
        settings,
        store,
        [
            event(1, 0, 100, ip="2001:db8::1"),
            event(2, 40, 250, card_id="d", ip="2001:db8::2"),
            event(3, 48.5, 700),
            event(4, 48.6, 5),
        ],
    )
    card = read_state(store, settings.key_prefix, "card", "c", 7 * DAY)
    assert card is not None
    assert [(w.name, w.events, w.amount) for w in card.windows] == [
        ("5 min", 1, 5), ("1 h", 2, 705), ("24 h", 2, 705), ("7 d", 3, 805), ("30 d", 3, 805),
    ]  # fmt: skip
    assert card.first_seen == START
    assert [amount for _, amount in card.recent] == [5, 700, 100]
    assert 44 < card.ttl_ms / 86_400_000 <= 45
    merchant = read_state(store, settings.key_prefix, "merchant", "m", 7 * DAY)
    assert merchant is not None
    assert (merchant.windows[2].events, merchant.windows[2].amount) == (3, 955)
    network = read_state(store, settings.key_prefix, "ip", "2001:db8::99", 7 * DAY)
    assert network is not None
    assert (network.windows[4].events, network.windows[4].cards) == (2, 2)
    assert read_state(store, settings.key_prefix, "device", "none", 7 * DAY) is None


def test_a_hot_merchant_counts_its_tiles(settings: Settings, store: RedisFeatureStore) -> None:
    count = 3 * SHARED_EVENTS
    events = [event(n, n / 60, 10, card_id=f"c{n}") for n in range(count)]
    for start in range(0, count, 50):
        put(settings, store, events[start : start + 50])
    merchant = read_state(store, settings.key_prefix, "merchant", "m", 7 * DAY)
    assert merchant is not None
    assert merchant.folded > 0
    assert (merchant.windows[4].events, merchant.windows[4].amount) == (count, 10 * count)


def test_the_command(settings: Settings, store: RedisFeatureStore, stack: Stack) -> None:
    put(settings, store, [event(1, 0, 12_345)])
    environment = {**stack.environment(), "FRAUD_TOPIC_PREFIX": settings.topic_prefix}

    def show(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "stream_features", "show", *arguments],
            capture_output=True, text=True, env={**os.environ, **environment},
        )  # fmt: skip

    shown = show("--card", "c")
    assert shown.returncode == 0
    assert "123.45" in shown.stdout
    assert json.loads(show("--merchant", "m", "--json", "-").stdout)["exact_events"] == 1
    assert show("--card", "nobody").returncode == 1
    assert show().returncode == 2
    wrong = show("--ip", "1.2.3")
    assert (wrong.returncode, "1.2.3" in wrong.stderr) == (2, True)
