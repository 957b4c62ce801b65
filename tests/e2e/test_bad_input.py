"""Whatever arrives on `transactions`: a precise dead letter, and the next message is served.

Each case has a card of its own: a good transaction, the bad message, another good transaction. The
second good vector must be what it would be without the bad message.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from devstack.stack import Stack
from schemas.card_numbers import masked
from schemas.codec import avro
from schemas.features import NAMES
from schemas.topics import DEAD_LETTER, DECISIONS, FEATURES, LABELS, TRANSACTIONS
from stream_features.engine.offline import OfflineEngine
from tests.support.pipeline import Pipeline
from tests.support.reference.drive import columns_of
from tests.support.waiting import until

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
NOW = time.time_ns() // 1_000_000
START = NOW - 40 * DAY_MS
PAN = "4111111111111111"
RATE = NAMES.index("merchant_fraud_rate_30d")


def good(card: str, number: int, at: int, **fields: Any) -> dict[str, Any]:
    return {
        "transaction_id": f"{card}-{number}",
        "event_time": at,
        "card_id": card,
        "merchant_id": f"m-{card}",
        "amount": 1000 + number,
        "currency": "EUR",
        **fields,
    }


def as_json(card: str, **fields: Any) -> bytes:
    record = good(card, 9, START + HOUR_MS) | fields
    return json.dumps({name: value for name, value in record.items() if value is not ...}).encode()


def as_avro(card: str, **fields: Any) -> bytes:
    return avro.encode("Transaction", good(card, 9, START + HOUR_MS) | fields)


@dataclass(frozen=True)
class Bad:
    """What must be refused: error class and field of its dead letter, part of the reason."""

    value: bytes | None
    error_class: str
    field: str | None
    reason: str


def cases() -> dict[str, Bad]:
    refused = "InvalidField"
    huge = json.dumps({"attributes": {"a": "x" * 1_000_000}}).encode()
    return {
        "garbage": Bad(b"\x00\xff\x13garbage", "UndecodableMessage", None, "Avro"),
        "empty": Bad(b"", "UndecodableMessage", None, "nothing"),
        "tombstone": Bad(None, "UndecodableMessage", None, "nothing"),
        "cut-json": Bad(b'{"transaction_id": "1"', "UndecodableMessage", None, "JSON"),
        "cut-avro": Bad(as_avro("cut-avro")[:-9], "UndecodableMessage", None, "cut short"),
        "fingerprint": Bad(b"\xc3\x01" + b"\x07" * 30, "UnknownSchema", None, "07070707"),
        "label-here": Bad(
            avro.encode(
                "Label",
                {
                    "transaction_id": "1",
                    "card_id": "label-here",
                    "label": "FRAUD",
                    "transaction_time": START,
                    "label_time": START,
                },
            ),
            "UnknownSchema",
            None,
            "Label",
        ),
        "no-merchant": Bad(
            as_json("no-merchant", merchant_id=...), refused, "merchant_id", "missing"
        ),
        "text-amount": Bad(as_json("text-amount", amount="12"), refused, "amount", "str"),
        "fraction": Bad(as_json("fraction", amount=12.5), refused, "amount", "whole number"),
        "nan-amount": Bad(as_json("nan-amount", amount=float("nan")), refused, "amount", "whole"),
        "negative": Bad(as_avro("negative", amount=-1), refused, "amount", "negative"),
        "absurd": Bad(as_avro("absurd", amount=10**15), refused, "amount", "out of range"),
        "currency": Bad(as_avro("currency", currency="USD"), refused, "currency", "rate"),
        "no-currency": Bad(as_avro("no-currency", currency="??"), refused, "currency", "ISO 4217"),
        "future": Bad(
            as_avro("future", event_time=NOW + DAY_MS), refused, "event_time", "ahead of our clock"
        ),
        "epoch": Bad(as_avro("epoch", event_time=0), refused, "event_time", "before 2000"),
        "seconds": Bad(
            as_avro("seconds", event_time=START // 1000), refused, "event_time", "not seconds"
        ),
        "empty-id": Bad(
            as_avro("empty-id", transaction_id=""), refused, "transaction_id", "missing"
        ),
        "long-id": Bad(
            as_avro("long-id", transaction_id="x" * 10_240), refused, "transaction_id", "10240"
        ),
        "long-card": Bad(as_avro("long-card", card_id="y" * 10_240), refused, "card_id", "10240"),
        "pan": Bad(as_avro("pan", card_id=PAN), refused, "card_id", "card number"),
        "megabyte": Bad(huge, "UndecodableMessage", None, "bytes"),
        "lone-surrogate": Bad(b'{"\\ud800": 1}', refused, "?", "is not a field"),
        "pan-field": Bad(f'{{"{PAN}": 1}}'.encode(), refused, masked(PAN), "is not a field"),
        "unknown-field": Bad(
            as_json("unknown-field", colour="red"), refused, "colour", "is not a field"
        ),
    }


CASES = cases()


@dataclass
class Served:
    pipeline: Pipeline
    dead: dict[str, dict[str, Any]]
    vectors: dict[str, dict[str, Any]]
    decisions: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def pipeline(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    with Pipeline(stack, tmp_path_factory.mktemp("logs")) as running:
        running.start("stream_features", "scorer")
        yield running


@pytest.fixture(scope="module")
def served(pipeline: Pipeline) -> Served:
    for name, bad in CASES.items():
        pipeline.send_transactions([good(name, 1, START)])
        pipeline.send(TRANSACTIONS, name, bad.value)
        pipeline.send_transactions([good(name, 2, START + 2 * HOUR_MS)])
    decisions = pipeline.wait_for(DECISIONS, 2 * len(CASES))
    dead = pipeline.wait_for(DEAD_LETTER, len(CASES))
    return Served(
        pipeline,
        {(each["key"] or b"").decode(): each for each in dead},
        {each["transaction"]["transaction_id"]: each for each in pipeline.records(FEATURES)},
        {each["transaction_id"]: each for each in decisions},
    )


@pytest.mark.parametrize("name", CASES)
def test_a_bad_message_is_a_precise_dead_letter(served: Served, name: str) -> None:
    letter, bad = served.dead[name], CASES[name]
    assert letter["error_class"] == bad.error_class
    assert letter["field"] == bad.field
    assert bad.reason in letter["reason"]
    assert letter["topic"] == served.pipeline.settings.topic(TRANSACTIONS)
    source = served.pipeline.messages(TRANSACTIONS)
    [position] = [m for m in source if m.key == name.encode() and m.value == bad.value]
    assert (letter["partition"], letter["offset"]) == (position.partition, position.offset)


@pytest.mark.parametrize("name", CASES)
def test_the_next_message_is_served_as_if_nothing_had_come(served: Served, name: str) -> None:
    rows = [good(name, 1, START), good(name, 2, START + 2 * HOUR_MS)]
    expected, _ = OfflineEngine().process(columns_of(rows))
    found = np.frombuffer(served.vectors[f"{name}-2"]["vector"], "<u4")
    assert found.tolist() == expected[1].view(np.uint32).tolist()
    assert served.decisions[f"{name}-2"]["decision"] in {"APPROVE", "REVIEW", "BLOCK"}


def test_nothing_else_was_refused_or_answered(served: Served) -> None:
    assert len(served.dead) == len(CASES)
    assert len(served.decisions) == 2 * len(CASES)


def test_a_card_number_is_nowhere_readable(served: Served) -> None:
    for letter in (served.dead["pan"], served.dead["pan-field"]):
        assert PAN not in str(letter)
    assert not any(PAN in path.read_text() for path in served.pipeline.log_dir.glob("*.log"))


def test_duplicate_out_of_order_late_and_zoned_times(pipeline: Pipeline) -> None:
    """Documented behaviour, not refusals; vectors equal a replay in the order of arrival."""
    card = "orders"
    rows = [
        good(card, 1, START),
        good(card, 2, START + DAY_MS, device_id="d-1"),
        good(card, 2, START + DAY_MS, device_id="d-1"),
        good(card, 3, START + HOUR_MS),
        good(card, 4, START + 35 * DAY_MS),
        good(card, 5, START + HOUR_MS),
        good(card, 6, START + 35 * DAY_MS + HOUR_MS, merchant_id="Zażółć 🜚 店"),
    ]
    before = len(pipeline.messages(FEATURES))
    pipeline.send_transactions(rows)
    pipeline.wait_for(DECISIONS, before + len(rows))
    found = [each for each in pipeline.records(FEATURES) if each["transaction"]["card_id"] == card]
    expected, flags = OfflineEngine().process(columns_of(rows))
    assert [each["duplicate"] for each in found] == [False, False, True, *[False] * 4]
    assert [each["late"] for each in found] == [False] * 5 + [True, False]
    assert [each["duplicate"] + 2 * each["late"] for each in found] == flags.tolist()
    for row, each in enumerate(found):
        bits = np.frombuffer(each["vector"], "<u4")
        assert bits.tolist() == expected[row].view(np.uint32).tolist(), rows[row]


def test_a_time_with_a_zone_and_one_without_are_one_clock(pipeline: Pipeline) -> None:
    card = "zones"
    before = len(pipeline.messages(FEATURES))
    for number, text in enumerate(("2024-03-01T13:00:00+01:00", "2024-03-01T12:30:00"), 1):
        value = json.dumps(good(card, number, 0) | {"event_time": text}).encode()
        pipeline.send(TRANSACTIONS, card, value)
    pipeline.producer.flush()
    pipeline.wait_for(FEATURES, before + 2)
    found = [each for each in pipeline.records(FEATURES) if each["transaction"]["card_id"] == card]
    times = [each["transaction"]["event_time"] for each in found]
    assert times[1] - times[0] == 30 * 60_000


def test_labels_unknown_twice_and_changed(pipeline: Pipeline) -> None:
    merchant = "m-labels"

    def buy(number: int, at: int) -> float:
        before = len(pipeline.messages(FEATURES))
        row = good(f"buyer-{number}", number, at, merchant_id=merchant)
        pipeline.send_transactions([row])
        vector = pipeline.wait_for(FEATURES, before + 1)[-1]["vector"]
        return float(np.frombuffer(vector, "<f4")[RATE])

    def label(verdict: str, transaction: str, card: str) -> None:
        before = pipeline.labels_processed()
        pipeline.send_label(
            {
                "transaction_id": transaction,
                "card_id": card,
                "label": verdict,
                "transaction_time": START,
                "label_time": START + DAY_MS,
            }
        )
        until(lambda: pipeline.labels_processed() > before, f"label {verdict} of {transaction}")

    assert buy(1, START) == 0.0
    label("FRAUD", "never-seen", "buyer-1")
    label("GENUINE", "never-seen-either", "buyer-1")
    assert buy(2, START + 10 * DAY_MS) == 0.0
    label("FRAUD", "buyer-1-1", "buyer-1")
    label("FRAUD", "buyer-1-1", "buyer-1")
    assert buy(3, START + 11 * DAY_MS) == 1.0
    label("GENUINE", "buyer-1-1", "buyer-1")
    assert buy(4, START + 12 * DAY_MS) == 0.0


def test_a_bad_label_is_a_dead_letter(pipeline: Pipeline) -> None:
    before = len(pipeline.messages(DEAD_LETTER))
    pipeline.send(LABELS, "some-card", b'{"label": "MAYBE"}')
    pipeline.producer.flush()
    letter = pipeline.wait_for(DEAD_LETTER, before + 1)[-1]
    assert (letter["topic"], letter["field"]) == (pipeline.settings.topic(LABELS), "label")
