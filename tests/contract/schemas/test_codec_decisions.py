"""The batch decoder of decisions equals the reference codec."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import avro
from schemas.codec.decisions import ACTIONS, ROLES, decode_decisions
from schemas.codec.decisions_kernel import NUMBERS, TEXTS
from schemas.columns import KINDS
from schemas.currency import CurrencyTable
from schemas.errors import UndecodableMessage, UnknownSchema
from schemas.keys import hash_id

EXAMPLES: Final = Path(__file__).parents[3] / "schemas" / "examples"
LONG = st.integers(-(2**63), 2**63 - 1)
SCORE = st.none() | st.floats(allow_nan=False)
REASON = st.fixed_dictionaries(
    {"code": st.text(), "text": st.text(), "contribution": st.none() | st.floats(allow_nan=False)}
)
SHADOW = st.fixed_dictionaries({"model_id": st.text(), "score": st.floats(allow_nan=False)})
DECISIONS = st.fixed_dictionaries(
    {
        "source_partition": st.integers(0, 2**31 - 1),
        "source_offset": LONG,
        "transaction_id": st.text(min_size=1),
        "card_id": st.text(),
        "merchant_id": st.text(),
        "event_time": LONG,
        "amount": st.integers(0, 10**12),
        "currency": st.sampled_from(["EUR", "USD", "XXX"]),
        "decision": st.sampled_from(ACTIONS),
        "score": SCORE,
        "anomaly_score": SCORE,
        "model_id": st.none() | st.text(min_size=1, max_size=5),
        "model_role": st.sampled_from(ROLES),
        "policy_version": st.text(),
        "duplicate": st.booleans(),
        "late": st.booleans(),
        "degraded": st.none() | st.text(),
        "rule_hits": st.lists(st.text(), max_size=3),
        "reasons": st.lists(REASON, max_size=3),
        "shadows": st.lists(SHADOW, max_size=3),
        "received_at": LONG,
        "computed_at": LONG,
        "decided_at": LONG,
        "kind": st.sampled_from(KINDS),
        "unread": st.lists(st.text(), max_size=3),
    }
)


@given(records=st.lists(DECISIONS, max_size=4))
@settings(deadline=None)
def test_decisions_decode_as_by_fastavro(records: list[dict[str, Any]]) -> None:
    decoded = decode_decisions([avro.encode("Decision", record) for record in records])
    assert len(decoded) == len(records)
    assert decoded.rejected == []
    for name in NUMBERS:
        assert decoded.number(name).tolist() == [record[name] for record in records]
    for name in TEXTS:
        assert decoded.raw(name) == [(record[name] or "").encode() for record in records]
    base = decoded.base_amount(CurrencyTable("EUR", {"USD": 0.5})).tolist()
    models = decoded.model_ids()
    for row, record in enumerate(records):
        assert ACTIONS[decoded.action[row]] == record["decision"]
        assert ROLES[decoded.role[row]] == record["model_role"]
        assert KINDS[decoded.kind[row]] == record["kind"]
        assert decoded.duplicate[row] == record["duplicate"]
        assert decoded.degraded[row] == (record["degraded"] is not None)
        assert decoded.transaction[row] == hash_id(record["transaction_id"])
        assert models.get(int(decoded.model[row])) == record["model_id"]
        rate = {"EUR": 1.0, "USD": 0.5, "XXX": 0.0}[record["currency"]]
        assert base[row] == round(record["amount"] * rate)
        for values, name in ((decoded.score, "score"), (decoded.anomaly, "anomaly_score")):
            expected = np.nan if record[name] is None else record[name]
            np.testing.assert_equal(values[row], expected)


@given(record=DECISIONS, data=st.data())
@settings(deadline=None)
def test_a_damaged_decision_is_refused_and_its_neighbours_are_read(
    record: dict[str, Any], data: st.DataObject
) -> None:
    good = avro.encode("Decision", record)
    cut = data.draw(st.integers(0, len(good) - 1))
    label = avro.encode(
        "Label",
        {"transaction_id": "t", "card_id": "c", "label": "FRAUD", "transaction_time": 1,
         "label_time": 1},
    )  # fmt: skip
    decoded = decode_decisions([good, good[:cut], label, good])
    assert decoded.rows.tolist() == [0, 3]
    assert [(row, type(error)) for row, error in decoded.rejected] == [
        (1, UndecodableMessage),
        (2, UnknownSchema),
    ]


def test_a_decision_of_the_schema_before_is_read() -> None:
    message = (EXAMPLES / "decision-v1.avro").read_bytes()
    newer = (EXAMPLES / "decision-v2.avro").read_bytes()
    decoded = decode_decisions([message, newer, message[:-1]])
    assert decoded.rows.tolist() == [0, 1]
    assert [KINDS[kind] for kind in decoded.kind.tolist()] == ["PURCHASE", "REFUND"]
    assert [type(error) for _, error in decoded.rejected] == [UndecodableMessage]
