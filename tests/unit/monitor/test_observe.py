"""What counts of the messages: first decisions, vectors of this catalogue, each model's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor.judge.figures import FigureMinimums, Figures
from monitor.observe.join_kernel import VALUE
from monitor.observe.labels import decode_labels
from monitor.observe.observations import MemoryLimits, Observations
from monitor.report import evidently
from runtime.kafka.protocols import Message
from runtime.settings import load_settings
from schemas.codec import avro
from schemas.currency import CurrencyTable
from schemas.features import DAY, HOUR, VECTOR_SIZE
from schemas.topics import DECISIONS, FEATURES, LABELS, TopicSpec
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


def test_a_duplicate_is_not_a_second_decision(seen: Observations) -> None:
    again = decision_message(1, 0.99, START, "one", duplicate=True)
    seen.sees_decisions(messages(DECISIONS.name, again))
    assert seen.quality.total("one", [START // HOUR], START).decided == 0
    assert seen.active.since("one") == []
    first = decision_message(2, 0.99, START, "one")
    seen.sees_decisions(messages(DECISIONS.name, again, first, again))
    assert seen.quality.total("one", [START // HOUR], START).decided == 1


def test_a_refund_that_is_blocked_saves_no_amount(seen: Observations) -> None:
    decided = [
        decision_message(number, 0.99, START, "one", amount=1_000, kind=kind)
        for number, kind in enumerate(("PURCHASE", "REFUND", "REVERSAL"))
    ]
    seen.sees_decisions(messages(DECISIONS.name, *decided))
    cell = seen.quality.total("one", [START // HOUR], START)
    assert cell.decided == 3
    assert cell.numbers[VALUE:].max() == 1_000


def test_scores_are_those_of_each_model(seen: Observations) -> None:
    models = ["one", "two", "one", "one", "unknown"]
    decided = [decision_message(n, 0.5, START, name) for n, name in enumerate(models)]
    decided.append(decision_message(9, 0.5, START, "one", kind="REFUND"))
    seen.sees_decisions(messages(DECISIONS.name, *decided))
    assert {name: window.rows for name, window in seen.scores.items()} == {"one": 3, "two": 1}


def test_vectors_of_refunds_or_of_another_catalogue_do_not_count_as_drift(
    seen: Observations,
) -> None:
    known = [vector_message(n, row, START) for n, row in enumerate(vectors(_draw(), 2))]
    _, record = avro.decode(known[0])
    foreign = avro.encode("FeatureVector", {**record, "fingerprint": b"olderone"})
    given_back = {**record["transaction"], "kind": "REFUND"}
    refund = avro.encode("FeatureVector", {**record, "transaction": given_back})
    assert seen.sees_vectors(messages(FEATURES.name, known[0], foreign, known[1], refund)) == 0
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


MICROSECONDS = START * 1_000
"""The unit mistaken: in the year 55,829."""


def labelled(
    card: str, fraud: bool, *, known: int = START, happened: int = START, arrived: int = START,
    transaction: str = "000001",
) -> Message:  # fmt: skip
    record = {
        "transaction_id": transaction, "card_id": card, "label": "FRAUD" if fraud else "GENUINE",
        "source": "CHARGEBACK", "transaction_time": happened, "label_time": known,
    }  # fmt: skip
    return Message(LABELS.name, 0, 0, arrived, b"", avro.encode("Label", record))


def counted(cards: int, each: int) -> tuple[list[Message], list[Message]]:
    """Return decisions and vectors: the terminal of each card counts its transactions from 1."""
    decisions, features = [], []
    values = np.zeros(VECTOR_SIZE, np.float32)
    for number in range(cards * each):
        names = {"transaction_id": f"{number % each + 1:06d}", "card_id": f"c{number // each}"}
        score = 0.99 if names["card_id"] == "c1" else 0.1
        decisions.append(decision_message(number, score, START, "one", **names))
        _, record = avro.decode(vector_message(number, values, START))
        transaction = record["transaction"] | names | {"channel": "POS"}
        features.append(avro.encode("FeatureVector", record | {"transaction": transaction}))
    return messages(DECISIONS.name, *decisions), messages(FEATURES.name, *features)


def test_ids_that_are_unique_on_their_card_only_are_told_apart() -> None:
    seen = Observations(
        MemoryLimits(approved=1_000, flagged=64, waiting=1_000), CurrencyTable("EUR", {})
    )
    seen.advance(START)
    decisions, features = counted(cards=30, each=20)
    seen.sees_vectors(features)
    seen.sees_decisions(decisions)
    seen.sees_labels([labelled("c0", True), labelled("c1", False)])
    cell = seen.quality.total("one", [START // HOUR], START, segment="POS")
    assert (cell.decided, cell.labelled) == (600, 2)
    assert (cell.fraud(0), cell.genuine(2)) == (1, 1)
    assert seen.quality.missed().sum() == 1
    assert seen.quality.counters()["repeated"] == seen.quality.counters()["unmatched"] == 0


def test_the_report_joins_by_card_and_id(monkeypatch: pytest.MonkeyPatch) -> None:
    decisions, features = counted(cards=3, each=2)
    found = {
        DECISIONS.name: decisions,
        FEATURES.name: features,
        LABELS.name: [
            labelled("c1", True),
            labelled("c0", False, known=START + 2, arrived=START + 2),
            labelled("c0", True, known=START + 1, arrived=START + 3),  # older news that came later
        ],
    }

    def read(settings: Any, spec: TopicSpec, *period: Any) -> list[list[Message]]:
        return [found[spec.name]]

    monkeypatch.setattr(evidently, "_read", read)
    table = evidently.from_kafka(load_settings(), START, START + HOUR)
    assert len(table) == 6
    verdicts = table["fraud"].tolist()
    assert [verdicts[0], verdicts[2]] == [0.0, 1.0]
    assert sum(verdict == verdict for verdict in verdicts) == 2
    assert table["card_tx_count_24h"].tolist() == [0.0] * 6


def test_a_label_is_known_neither_before_its_transaction_nor_after_its_arrival() -> None:
    found = decode_labels(
        [
            labelled("a", True, known=START - 60_000),  # two clocks
            labelled("b", True, known=START + DAY, arrived=START + HOUR),
            labelled("c", True, known=START + 5, arrived=START + HOUR),
        ]
    )
    assert (found.known_at - START).tolist() == [0, HOUR, 5]


@pytest.mark.parametrize("ahead", [MICROSECONDS, START + 300 * DAY])
def test_a_label_from_far_ahead_does_not_stand_for_ever(seen: Observations, ahead: int) -> None:
    seen.sees_decisions(messages(DECISIONS.name, decision_message(1, 0.99, START, "one")))
    seen.sees_labels([labelled("c1", True, known=ahead, transaction="t1")])
    reversal = START + 2 * DAY
    seen.sees_labels([labelled("c1", False, known=reversal, arrived=reversal, transaction="t1")])
    cell = seen.quality.total("one", [START // HOUR], START)
    assert (cell.fraud(2), cell.genuine(2)) == (0, 1)
    assert seen.label_delay.quantile(1.0) < 3 * DAY


def test_of_two_labels_of_one_time_the_later_one_counts(seen: Observations) -> None:
    """A feed with days only: the reversal came in the afternoon."""
    seen.sees_decisions(messages(DECISIONS.name, decision_message(1, 0.99, START, "one")))
    for fraud in (True, False):
        seen.sees_labels([labelled("c1", fraud, transaction="t1")])
    cell = seen.quality.total("one", [START // HOUR], START)
    assert (cell.fraud(2), cell.genuine(2)) == (0, 1)
