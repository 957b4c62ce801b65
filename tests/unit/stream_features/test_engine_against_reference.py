"""The engine against the slow reference: every feature, every row, within two float32 steps.

Hot entities, whose old events the engine folds into tiles, must stay between windows shortened and
lengthened by W/24.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from schemas.features import NAMES
from stream_features.engine.offline import OfflineEngine
from tests.support.reference.catalogue import Reference
from tests.support.reference.drive import bracket, close, differences, engine_run, reference_run
from tests.support.reference.statistics import DAY, HOUR, MINUTE
from tests.support.reference.streams import START, Event, Shape, label_of, stream, streams

WEEK = 7 * DAY
SHAPES = {
    "busy": Shape(),
    "pair": Shape(cards=2, merchants=2, step=12 * HOUR),
    "sparse": Shape(cards=1, step=3 * DAY),
    "dense": Shape(step=2 * MINUTE, missing=0.0),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(4))
def test_seeded_streams(seed: int, shape: str) -> None:
    assert differences(stream(seed, 150, SHAPES[shape]), WEEK) == []


@pytest.mark.parametrize("delay", [1, HOUR, 20 * DAY])
def test_other_label_delays(delay: int) -> None:
    assert differences(stream(7, 200), delay) == []


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(streams())
def test_any_stream(events: list[Event]) -> None:
    assert differences(events, WEEK) == []


def tx(name: str, time: int, **fields: Any) -> Event:
    return {
        "transaction": {
            "transaction_id": name, "event_time": START + time, "card_id": "c",
            "merchant_id": "m", "amount": 1000, "currency": "EUR",
        } | fields
    }  # fmt: skip


def test_the_duplicate_of_a_fraud_leaves_the_fraud_out() -> None:
    events = [tx("1", 0), tx("2", 0), tx("1", WEEK)]
    events.insert(1, label_of(events[0]["transaction"], True))
    assert differences(events, WEEK) == []


def test_a_late_duplicate_has_both_flags() -> None:
    assert differences([tx("1", 0), tx("2", 30 * DAY), tx("1", 0)], WEEK) == []


HOT_FEATURES = tuple(
    name
    for name in NAMES
    if ("count" in name or "sum" in name or "velocity_1h" in name or "amount_max" in name)
    and "fraud" not in name
)


@pytest.mark.parametrize(("seed", "step"), [(1, 20 * MINUTE), (2, 2 * HOUR)])
def test_hot_entities_round_the_far_edge_only(seed: int, step: int) -> None:
    shape = Shape(
        cards=2, merchants=2, devices=2, step=step, duplicate_share=0, late_share=0, label_share=0
    )
    events = stream(seed, 400, shape)
    engine = OfflineEngine(label_delay_ms=WEEK, card_events=48, shared_events=32)
    got, _ = engine_run(engine, events)
    exact, _ = reference_run(Reference(WEEK), events)
    short, long = bracket(events, WEEK)
    inside = (got >= short.astype(np.float32)) & (got <= long.astype(np.float32))
    wrong = ~(close(got, exact) | inside)
    columns = [NAMES.index(name) for name in HOT_FEATURES]
    assert [NAMES[column] for column in columns if wrong[:, column].any()] == []
