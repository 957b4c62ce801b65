"""The scorer's batch codec equals the reference codec."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import avro
from schemas.codec.decisions import encode_decisions, explain
from schemas.codec.vectors import decode_feature_vectors
from schemas.columns import CHANNELS, KINDS
from schemas.errors import UndecodableMessage, UnknownSchema
from schemas.features import FINGERPRINT, VECTOR_SIZE
from schemas.keys import hash_id
from schemas.rules.transaction import CONTEXT
from tests.support.schemas.codec_strategies import transactions

LONG = st.integers(-(2**63), 2**63 - 1)
OF_TRANSACTION = (
    "transaction_id", "card_id", "merchant_id", "event_time", "amount", "currency", "kind",
    "unread",
)  # fmt: skip
OF_VECTOR = (
    "source_partition", "source_offset", "duplicate", "late", "received_at", "computed_at",
)  # fmt: skip
MODELS = ("champion-1", "Kanarie-ü")


def feature_vector(transaction: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "source_partition": 3, "source_offset": 12, "received_at": 1_700_000_000_000,
        "computed_at": 1_700_000_000_000_000, "duplicate": False, "late": False,
        "fingerprint": FINGERPRINT, "vector": np.arange(VECTOR_SIZE, dtype="<f4").tobytes(),
        "transaction": transaction,
    } | changes  # fmt: skip


@st.composite
def feature_vectors(draw: st.DrawFn) -> dict[str, Any]:
    return feature_vector(
        draw(transactions()) | {"unread": draw(st.lists(st.sampled_from(CONTEXT), max_size=2))},
        source_partition=draw(st.integers(0, 2**31 - 1)),
        source_offset=draw(LONG),
        received_at=draw(LONG),
        computed_at=draw(LONG),
        duplicate=draw(st.booleans()),
        late=draw(st.booleans()),
        vector=draw(st.binary(min_size=4 * VECTOR_SIZE, max_size=4 * VECTOR_SIZE)),
    )


@given(records=st.lists(feature_vectors(), max_size=4))
@settings(deadline=None)
def test_vectors_decode_as_by_fastavro(records: list[dict[str, Any]]) -> None:
    decoded = decode_feature_vectors([avro.encode("FeatureVector", r) for r in records])
    assert len(decoded) == len(records)
    assert decoded.rejected == []
    assert decoded.known.all()
    for field in ("customer_id", "card_id", "ip", "merchant_country", "currency"):
        assert decoded.texts(field) == [r["transaction"][field] for r in records]
    for row, record in enumerate(records):
        inner = record["transaction"]
        assert decoded.matrix[row].tobytes() == record["vector"]
        for name in ("source_partition", "source_offset", "received_at", "computed_at"):
            assert getattr(decoded, name)[row] == record[name]
        assert decoded.flags[row] == record["duplicate"] + 2 * record["late"]
        assert decoded.event_time[row] == inner["event_time"]
        assert decoded.amount[row] == inner["amount"]
        assert decoded.mcc[row] == (-1 if inner["mcc"] is None else inner["mcc"])
        assert CHANNELS[decoded.channel[row]] == inner["channel"]
        assert KINDS[decoded.kind[row]] == inner["kind"]
        assert decoded.card_hash[row] == hash_id(inner["card_id"])
        assert decoded.transaction_hash[row] == hash_id(inner["transaction_id"])
        assert decoded.transaction(row) == inner


@given(record=transactions(), data=st.data())
def test_a_damaged_vector_is_refused_and_its_neighbours_are_served(
    record: dict[str, Any], data: st.DataObject
) -> None:
    good = avro.encode("FeatureVector", feature_vector(record))
    cut = data.draw(st.integers(0, len(good) - 1))
    decoded = decode_feature_vectors([good, good[:cut], good])
    assert decoded.rows.tolist() == [0, 2]
    assert [(row, type(error)) for row, error in decoded.rejected] == [(1, UndecodableMessage)]


@given(record=transactions())
def test_other_catalogues_are_marked_and_other_records_refused(record: dict[str, Any]) -> None:
    strange = feature_vector(record, fingerprint=b"strange!")
    longer = feature_vector(record, vector=bytes(4 * VECTOR_SIZE + 4))
    decoded = decode_feature_vectors(
        [
            avro.encode("FeatureVector", strange),
            avro.encode("FeatureVector", longer),
            avro.encode("Transaction", record),
        ]
    )
    assert decoded.known.tolist() == [False, False]
    assert np.isnan(decoded.matrix).all()
    assert isinstance(decoded.rejected[0][1], UnknownSchema)


REASONS = st.fixed_dictionaries(
    {"code": st.text(), "text": st.text(), "contribution": st.none() | st.floats(allow_nan=False)}
)
SHADOWS = ("Schatten-ü", "x" * 300, "")


@given(
    records=st.lists(feature_vectors(), max_size=3),
    data=st.data(),
    policy=st.text(max_size=20),
    decided=LONG,
)
@settings(deadline=None)
def test_decisions_are_the_bytes_of_fastavro(
    records: list[dict[str, Any]], data: st.DataObject, policy: str, decided: int
) -> None:
    decoded = decode_feature_vectors([avro.encode("FeatureVector", r) for r in records])
    score = st.none() | st.floats(0, 1)
    answers: list[dict[str, Any]] = [
        {
            "decision": data.draw(st.sampled_from(["APPROVE", "REVIEW", "BLOCK"])),
            "score": data.draw(score),
            "anomaly_score": data.draw(score),
            "model_id": data.draw(st.sampled_from([None, *MODELS])),
            "model_role": data.draw(st.sampled_from(["NONE", "CHAMPION", "CANARY"])),
            "degraded": data.draw(st.sampled_from([None, "no_model"])),
            "rule_hits": data.draw(st.lists(st.text(), max_size=2)),
            "reasons": data.draw(st.lists(REASONS, max_size=2)),
            "shadows": [
                {"model_id": name, "score": data.draw(st.floats(allow_nan=False))}
                for name in SHADOWS
                if data.draw(st.booleans())
            ],
        }
        for _ in records
    ]
    expected = [
        avro.encode(
            "Decision",
            answer
            | {name: record["transaction"][name] for name in OF_TRANSACTION}
            | {name: record[name] for name in OF_VECTOR}
            | {"policy_version": policy, "decided_at": decided},
        )
        for record, answer in zip(records, answers, strict=True)
    ]
    nan = float("nan")
    written = encode_decisions(
        decoded,
        action=np.array(
            [("APPROVE", "REVIEW", "BLOCK").index(a["decision"]) for a in answers], np.uint8
        ),
        score=np.array([nan if a["score"] is None else a["score"] for a in answers], np.float64),
        anomaly=np.array(
            [nan if a["anomaly_score"] is None else a["anomaly_score"] for a in answers], np.float64
        ),
        model=np.array(
            [-1 if a["model_id"] is None else MODELS.index(a["model_id"]) for a in answers],
            np.int64,
        ),
        model_ids=MODELS,
        role=np.array(
            [("NONE", "CHAMPION", "CANARY").index(a["model_role"]) for a in answers], np.uint8
        ),
        policy_version=policy,
        explanations={
            row: explain(a["degraded"], a["rule_hits"], a["reasons"])
            for row, a in enumerate(answers)
        },
        decided_at=decided,
        shadows=[
            (
                name,
                np.array(
                    [
                        next((s["score"] for s in a["shadows"] if s["model_id"] == name), nan)
                        for a in answers
                    ],
                    np.float64,
                ),
            )
            for name in SHADOWS
        ],
    )
    assert written == expected


TRANSACTION = {
    "transaction_id": "t1", "event_time": 1_700_000_000_000, "card_id": "card-1",
    "merchant_id": "m1", "amount": 1234, "currency": "EUR", "attributes": {},
}  # fmt: skip


@pytest.mark.parametrize(
    ("column", "value"), [("model", 2), ("model", -2), ("action", 3), ("role", 3)]
)
def test_a_code_out_of_range_is_refused(column: str, value: int) -> None:
    vectors = decode_feature_vectors([avro.encode("FeatureVector", feature_vector(TRANSACTION))])
    score = np.zeros(1)
    columns: dict[str, Any] = {
        "action": np.zeros(1, np.uint8), "model": np.array([1]), "role": np.zeros(1, np.uint8),
    }  # fmt: skip

    def encode() -> list[bytes]:
        return encode_decisions(
            vectors, score=score, anomaly=score, model_ids=["one", "two"], policy_version="1",
            explanations={}, decided_at=0, **columns,
        )  # fmt: skip

    assert avro.decode(encode()[0])[1]["model_id"] == "two"
    columns[column] = np.array([value], columns[column].dtype)
    with pytest.raises(ValueError, match="out of range"):
        encode()


def test_columns_of_another_length_are_refused() -> None:
    one = np.zeros(1)
    with pytest.raises(ValueError, match="for 0 vectors"):
        encode_decisions(
            decode_feature_vectors([]), action=one.astype(np.uint8), score=one, anomaly=one,
            model=one.astype(np.int64), model_ids=MODELS, role=one.astype(np.uint8),
            policy_version="1", explanations={}, decided_at=0,
        )  # fmt: skip
