"""What counts of the messages: first decisions, vectors of this catalogue, each model's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor.judge.figures import FigureMinimums, Figures
from monitor.observe.observations import MemoryLimits, Observations
from runtime.kafka.protocols import Message
from schemas.codec import avro
from schemas.currency import CurrencyTable
from schemas.features import HOUR
from schemas.topics import DECISIONS, FEATURES
from tests.support.monitor.traffic import START, bundle, decision_message, vector_message, vectors


def messages(topic: str, *values: bytes) -> list[Message]:
    return [Message(topic, 0, place, START, b"", value) for place, value in enumerate(values)]


@pytest.fixture
def seen(tmp_path: Path) -> Observations:
    """Two models that serve, with reference histograms."""
    bundle(tmp_path / "m", "m")
    histograms: Any = json.loads((tmp_path / "m" / "histograms.json").read_text())
    made = Observations(MemoryLimits(approved=64, flagged=64, waiting=64), CurrencyTable("EUR", {}))
    made.advance(START)
    made.serve("one", {"one": histograms, "two": histograms})
    return made


def test_a_duplicate_is_no_second_decision(seen: Observations) -> None:
    again = decision_message(1, 0.99, START, "one", duplicate=True)
    seen.sees_decisions(messages(DECISIONS.name, again))
    assert seen.quality.total("one", [START // HOUR], START).decided == 0
    assert seen.active.since("one") == []
    first = decision_message(2, 0.99, START, "one")
    seen.sees_decisions(messages(DECISIONS.name, again, first, again))
    assert seen.quality.total("one", [START // HOUR], START).decided == 1


def test_scores_are_those_of_each_model(seen: Observations) -> None:
    models = ["one", "two", "one", "one", "unknown"]
    decided = [decision_message(n, 0.5, START, name) for n, name in enumerate(models)]
    seen.sees_decisions(messages(DECISIONS.name, *decided))
    assert {name: window.rows for name, window in seen.scores.items()} == {"one": 3, "two": 1}


def test_vectors_of_another_catalogue_do_not_count_as_drift(seen: Observations) -> None:
    known = [vector_message(n, row, START) for n, row in enumerate(vectors(_draw(), 2))]
    _, record = avro.decode(known[0])
    foreign = avro.encode("FeatureVector", {**record, "fingerprint": b"olderone"})
    assert seen.sees_vectors(messages(FEATURES.name, known[0], foreign, known[1])) == 0
    assert seen.features is not None
    assert seen.features.rows == 2


def test_the_calendar_and_ages_are_not_watched_for_drift(seen: Observations) -> None:
    figures = Figures(seen, FigureMinimums(rows=1, covered=0.0)).make(START, ["one"])
    assert "amount" in figures["feature_psi"]
    assert figures["feature_psi"].keys().isdisjoint(
        {
            "hour_of_day", "day_of_week", "is_weekend", "is_night", "card_age_days",
            "merchant_age_days", "device_age_days",
        }
    )  # fmt: skip


def _draw() -> np.random.Generator:
    return np.random.default_rng(1)
