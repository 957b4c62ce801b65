"""Messages become rows that equal what the reference codec reads; what is damaged is left out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from runtime.kafka.protocols import Message
from schemas.codec import avro
from schemas.currency import CurrencyTable
from schemas.errors import ConfigurationError
from stream_features.offline.transaction_table import table_columns
from tests.support.trainer.archive_messages import DECODING, START, decision, feature, label
from trainer.archive.avro_block import read_block
from trainer.archive.table_rows import DECISIONS, decision_rows, feature_rows


def full(offset: int) -> Message:
    return feature(
        offset, currency="USD", mcc=5411, device_id="dév", ip="10.0.0.1", ip_country="DE",
        card_country="FR", merchant_country="IT", latitude=50.5, longitude=-8.25,
        customer_id="c", attributes={"k": "v"},
    )  # fmt: skip


def test_a_vector_keeps_its_bytes_and_the_transaction_its_fields() -> None:
    messages = [full(0), feature(1), feature(2, fingerprint=b"olderone", vector=b"short")]
    rows = DECODING.rows("features", messages)
    assert rows.rejected == []
    for row, message in zip(rows.table.to_pylist(), messages, strict=True):
        record = avro.decode(message.value or b"")[1]
        transaction = record["transaction"]
        for name in ("source_offset", "fingerprint", "vector", "duplicate", "late", "computed_at"):
            assert row[name] == record[name]
        for name in ("transaction_id", "event_time", "card_id", "customer_id", "merchant_id",
                     "currency", "mcc", "channel", "device_id", "ip", "ip_country", "card_country",
                     "merchant_country", "latitude", "longitude"):  # fmt: skip
            assert row[name] == transaction[name]
        assert row["original_amount"] == transaction["amount"] == 1000
        assert row["event_date"].isoformat() == "2023-11-14"
    assert rows.table.column("amount").to_pylist() == [500, 1000, 1000]


def test_rows_give_the_columns_that_the_engine_reads() -> None:
    columns = table_columns(feature_rows([full(0), feature(1)], DECODING.currencies).table)
    assert columns.amount.tolist() == [500, 1000]
    assert columns.mcc.tolist() == [5411, -1]
    assert columns.channel.tolist() == [1, 1]
    assert columns.card_country.tolist() == [ord("F") << 8 | ord("R"), 0]
    assert (columns.position != 0).tolist() == [True, False]
    assert (columns.device != 0).tolist() == [True, False]


def test_a_currency_without_a_rate_is_the_operators_to_mend() -> None:
    with pytest.raises(ConfigurationError, match=r"USD.*FRAUD_CURRENCY_RATES"):
        feature_rows([full(0)], CurrencyTable("EUR", {}))


DECISIONS_OF_ALL_KINDS = [
    decision(0),
    decision(1, decision="BLOCK", model_id=None, score=None, degraded="no_model", late=True,
             model_role="NONE", rule_hits=["a", "b"], anomaly_score=0.5),
    decision(3, kind="REFUND", unread=["mcc", "ip"]),
    decision(2, decision="REVIEW", reasons=[{"code": "c", "text": "é", "contribution": None},
             {"code": "d", "text": "t", "contribution": 1.5}],
             shadows=[{"model_id": "s", "score": 0.125}]),
]  # fmt: skip


def test_decisions_at_once_equal_the_reference_codec() -> None:
    assert read_block("Decision", DECISIONS_OF_ALL_KINDS) is not None
    rows = decision_rows(DECISIONS_OF_ALL_KINDS)
    assert rows.table.schema == DECISIONS
    for row, message in zip(rows.table.to_pylist(), DECISIONS_OF_ALL_KINDS, strict=True):
        expected = avro.decode(message.value or b"")[1]
        assert {name: row[name] for name in expected} == expected


DAMAGES: list[Callable[[bytes], bytes | None]] = [
    lambda value: value + b"\x00",
    lambda value: value[:-1],
    lambda value: b"noise",
    lambda value: None,
    lambda value: value[:12] + b"\xff" + value[13:],
]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_damaged_decision_is_left_out_alone(
    damage: Callable[[bytes], bytes | None], place: int
) -> None:
    messages = list(DECISIONS_OF_ALL_KINDS)
    messages[place] = messages[place]._replace(value=damage(messages[place].value or b""))
    rows = decision_rows(messages)
    assert [row for row, _ in rows.rejected] == [place]
    kept = [message for row, message in enumerate(messages) if row != place]
    assert rows.table.equals(decision_rows(kept).table)


def test_what_is_not_where_or_when_it_says_is_left_out() -> None:
    wrong = [feature(0), feature(1, source_partition=3), feature(2, event_time=2**60)]
    rows = DECODING.rows("features", wrong)
    assert [row for row, _ in rows.rejected] == [1, 2]
    assert rows.column("source_offset").tolist() == [0]
    moved = decision(1)._replace(partition=2)
    rows = decision_rows([decision(0), moved, decision(2, event_time=-1)])
    assert [row for row, _ in rows.rejected] == [1, 2]
    assert np.array_equal(rows.column("topic_offset"), [0])


def test_labels_are_kept_by_their_place_in_the_topic() -> None:
    messages = [label(5, 0), label(6, 0, fraud=False), label(7, 1)._replace(value=b"{}")]
    rows = DECODING.rows("labels", messages)
    assert [row for row, _ in rows.rejected] == [2]
    assert rows.column("topic_offset").tolist() == [5, 6]
    assert rows.table.column("label").to_pylist() == ["FRAUD", "GENUINE"]
    assert rows.column("label_time").tolist() == [START + 10, START + 10]
