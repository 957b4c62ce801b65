"""Lost, duplicated and conflicting are counted right, and latencies belong to their transaction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loadtest.traffic.answers import read_answers
from loadtest.traffic.encode import encode_transactions
from loadtest.traffic.ledger import Ledger
from loadtest.world.world import World
from schemas.codec import avro

REASON = {"code": "r", "text": "because", "contribution": 0.5}


def decision(row: dict[str, Any], **changes: Any) -> bytes:
    record: dict[str, Any] = {
        "source_partition": 1, "source_offset": 7, "decision": "APPROVE", "score": 0.25,
        "anomaly_score": None, "model_id": "m", "model_role": "CHAMPION", "policy_version": "1",
        "duplicate": False, "late": False, "degraded": None, "rule_hits": [], "reasons": [],
        "shadows": [], "received_at": 1_000, "computed_at": 1_002_500, "decided_at": 1_005_000,
    }  # fmt: skip
    for name in ("transaction_id", "card_id", "merchant_id", "event_time", "amount", "currency"):
        record[name] = row[name]
    return avro.encode("Decision", record | changes)


class Run:
    """A ledger that was told of one day, all due at 10 ms."""

    def __init__(self) -> None:
        table = World(300, seed=3).day(20_100)
        self.rows = table.to_pylist()
        self.encoded = encode_transactions(table)
        self.ledger = Ledger(wall_offset_ns=990_000_000)
        self.ledger.sent(self.encoded.identity, np.full(len(self.rows), 10_000_000, np.int64))

    def answer(self, messages: list[bytes], seen: int = 30_000_000) -> Any:
        return self.ledger.received(read_answers(messages, seen))


@pytest.fixture
def run() -> Run:
    return Run()


def test_all_answered_once(run: Run) -> None:
    assert run.ledger.first_answer() is None
    latency = run.answer([decision(row) for row in run.rows])
    counts = run.ledger.counts()
    assert counts == (len(run.rows), len(run.rows), 0, 0, 0, 0)
    assert set(latency.tolist()) == {20_000_000}
    assert run.ledger.actions.tolist() == [len(run.rows), 0, 0]
    assert run.ledger.first_answer() == 30_000_000


def test_the_missing_are_lost(run: Run) -> None:
    run.answer([decision(row) for row in run.rows[3:]])
    counts = run.ledger.counts()
    assert (counts.lost, counts.decided) == (3, len(run.rows) - 3)


def test_an_equal_second_answer_is_duplicated_another_one_conflicts_too(run: Run) -> None:
    row = run.rows[0]
    run.answer([decision(row), decision(row, decided_at=9_999)])
    assert run.ledger.counts()[3:5] == (1, 0)
    run.answer([decision(row, decision="BLOCK")])
    assert run.ledger.counts()[3:5] == (2, 1)
    run.answer([decision(row, score=0.26)])
    assert run.ledger.counts()[3:5] == (3, 2)


def test_an_answer_to_nothing_is_unknown(run: Run) -> None:
    run.answer([decision(run.rows[0], card_id="another"), b"junk", b""])
    assert run.ledger.counts().unknown == 3


def test_a_transaction_sent_twice_expects_two_answers(run: Run) -> None:
    run.ledger.sent(run.encoded.identity[:1], np.array([50_000_000]))
    assert run.ledger.counts().sent == len(run.rows) + 1
    run.answer([decision(run.rows[0]), decision(run.rows[0], source_offset=8)])
    counts = run.ledger.counts()
    assert (counts.decided, counts.duplicated) == (2, 0)


def test_reasons_shadows_and_rules_are_walked_over(run: Run) -> None:
    full = decision(
        run.rows[0], decision="REVIEW", reasons=[REASON, REASON], rule_hits=["a", "b"],
        shadows=[{"model_id": "s", "score": 0.5}], degraded="no model", model_id=None, score=None,
    )  # fmt: skip
    answers = read_answers([full], 0)
    assert answers.identity[0] == run.encoded.identity[0]
    times = (answers.received_at[0], answers.computed_at[0], answers.decided_at[0])
    assert times == (1_000, 1_002_500, 1_005_000)
    assert answers.degraded[0]
    assert answers.action[0] == 1


def test_stages_add_up(run: Run) -> None:
    run.answer([decision(run.rows[0])])
    assert run.ledger.stages[0].tolist() == [0.0, 2.5, 2.5, 15.0]


def test_an_echo_counts_as_an_answer(run: Run) -> None:
    run.answer(run.encoded.values)
    assert run.ledger.counts().lost == 0
    assert run.ledger.actions.sum() == 0


def test_every_cut_of_a_decision_is_unknown(run: Run) -> None:
    whole = decision(run.rows[0], reasons=[REASON])
    run.answer([whole[:size] for size in range(len(whole))])
    assert run.ledger.counts().decided == 0
    assert run.ledger.counts().unknown == len(whole)


def test_the_table_grows(run: Run) -> None:
    rng = np.random.default_rng(1)
    many = rng.integers(1, 2**63, 200_000).astype(np.uint64)
    run.ledger.sent(many, np.zeros(len(many), np.int64))
    run.answer(run.encoded.values)
    assert run.ledger.counts().decided == len(run.rows)
    assert run.ledger.counts().sent == len(run.rows) + len(many)
