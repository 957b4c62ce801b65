"""Stored decisions on SQLite and PostgreSQL: once, found, listed and deleted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from database.core.database import Database
from database.core.inserts import Inserted
from database.core.positions import move_positions, read_positions
from database.decisions.decisions import (
    StoredDecision,
    add_decisions,
    add_vectors,
    answers,
    delete_older,
    find,
    history,
)
from database.store.rows import decision_rows, vector_rows
from runtime.kafka.protocols import Message
from schemas.codec import avro
from schemas.errors import Fenced
from tests.support.database.stored import START, decision, vector


def messages(name: str, records: Sequence[dict[str, Any]]) -> list[Message]:
    return [
        Message("topic", 0, place, START, b"", avro.encode(name, record))
        for place, record in enumerate(records)
    ]


def add(database: Database, *records: dict[str, Any]) -> Inserted:
    with database.begin() as connection:
        return add_decisions(connection, decision_rows(messages("Decision", records)).rows)


def attach(database: Database, *records: dict[str, Any]) -> Inserted:
    with database.begin() as connection:
        return add_vectors(connection, vector_rows(messages("FeatureVector", records)).rows)


def found(
    database: Database, transaction_id: str, card_id: str | None = None
) -> list[StoredDecision]:
    with database.read() as connection:
        return find(connection, transaction_id, card_id)


@pytest.mark.parametrize("vector_first", [True, False])
def test_a_decision_is_found_with_its_vector_whichever_came_first(
    database: Database, vector_first: bool
) -> None:
    reasons = [{"code": "r", "text": "eleven in an hour", "contribution": None}]
    one = decision(1, decision="REVIEW", reasons=reasons, rule_hits=["r"])
    if vector_first:
        attach(database, vector(1))
    add(database, one)
    if not vector_first:
        attach(database, vector(1))
    assert found(database, "tx-1") == [StoredDecision(one, vector(1))]  # type: ignore[arg-type]
    assert found(database, "tx-1", "card-2") == []


def test_the_first_answer_stays_and_nothing_is_stored_twice(database: Database) -> None:
    first = decision(1)
    assert add(database, first, decision(2)).new == 2
    again = decision(1, decision="BLOCK", score=0.99)
    assert add(database, again, decision(3), decision(3, score=0.5)).new == 1
    assert found(database, "tx-1") == [StoredDecision(first, None)]  # type: ignore[arg-type]
    assert attach(database, vector(1), vector(1)).new == 1
    with database.read() as connection:
        assert answers(connection, [("tx-1", "card-1"), ("tx-9", "card-1")]) == {
            ("tx-1", "card-1"): "APPROVE"
        }


def test_one_id_on_two_cards_is_two_transactions(database: Database) -> None:
    add(database, decision(1), decision(1, card_id="other", decided_at=(START + 5) * 1000))
    cards = [stored.decision["card_id"] for stored in found(database, "tx-1")]
    assert cards == ["other", "card-1"]


def test_history_is_newest_first_and_goes_on_before_a_time(database: Database) -> None:
    add(database, *(decision(number, card_id="card") for number in range(10)))
    add(database, decision(11, card_id="another"))
    with database.read() as connection:
        newest = history(connection, "card", 3)
        older = history(connection, "card", 3, newest[-1]["event_time"])
    assert [row["source_offset"] for row in newest + older] == [9, 8, 7, 6, 5, 4]


def test_the_oldest_are_deleted_in_small_batches(database: Database) -> None:
    add(database, *map(decision, range(10)))
    attach(database, *map(vector, range(10)))
    with database.begin() as connection:
        assert delete_older(connection, START + 6, 4) == {"decisions": 4, "vectors": 4}
    assert found(database, "tx-3") == []
    assert len(found(database, "tx-4")) == 1
    with database.begin() as connection:
        assert delete_older(connection, START + 6, 4) == {"decisions": 2, "vectors": 2}
        assert delete_older(connection, START + 6, 4) == {"decisions": 0, "vectors": 0}
    assert [len(found(database, f"tx-{number}")) for number in (5, 6, 9)] == [0, 1, 1]


def test_what_a_database_cannot_hold_does_not_stop_the_others(database: Database) -> None:
    """PostgreSQL holds no currency of four letters; SQLite does."""
    rows = [decision(n) for n in range(20)]
    rows[3] = decision(3, currency="EURO")
    rows[17] = decision(17, currency="EURO")
    inserted = add(database, *rows)
    refused = [row["transaction_id"] for row, _ in inserted.refused]
    assert refused == ([] if database.file else ["tx-3", "tx-17"])
    assert inserted.new == 20 - len(refused)
    assert found(database, "tx-16") == [StoredDecision(rows[16], None)]  # type: ignore[arg-type]


def test_a_nul_in_a_text_hides_nothing(database: Database) -> None:
    """PostgreSQL holds none; a transaction with one is found by its id all the same."""
    one = decision(1, transaction_id="a\0b", card_id="c\0d", merchant_id="\0", decision="BLOCK")
    assert add(database, one) == Inserted(1, [])
    assert attach(database, vector(1, transaction_id="a\0b", card_id="c\0d")).new == 1
    for stored in (*found(database, "a\0b"), *found(database, "a\0b", "c\0d")):
        assert stored.decision == one
        assert stored.vector is not None
    with database.read() as connection:
        assert history(connection, "c\0d", 9) == [one]


def test_a_missing_score_stays_missing(database: Database) -> None:
    one = decision(1, score=None, model_id=None, degraded="no_model", model_role="NONE")
    add(database, one)
    assert found(database, "tx-1") == [StoredDecision(one, None)]  # type: ignore[arg-type]


def test_positions_move_from_where_they_were_read_only(database: Database) -> None:
    with database.begin() as connection:
        move_positions(connection, "decisions", {0: (None, 10), 1: (None, 20)})
        move_positions(connection, "decisions", {0: (10, 15)})
    for stale in (10, None):
        with pytest.raises(Fenced), database.begin() as connection:
            move_positions(connection, "decisions", {1: (20, 99), 0: (stale, 30)})
    with database.read() as connection:
        assert read_positions(connection, "decisions") == {0: 15, 1: 20}
        assert read_positions(connection, "features") == {}


def test_of_the_messages_only_reviews_that_are_not_duplicates_ask_for_one() -> None:
    review = decision(2, decision="REVIEW")
    records = [decision(1), review, decision(3, decision="REVIEW", duplicate=True)]
    batch = messages("Decision", records)
    batch.insert(1, Message("topic", 0, 9, START, b"", b"noise"))
    rows = decision_rows(batch)
    assert rows.reviews == [review]
    assert [place for place, _ in rows.rejected] == [1]
    assert [row["record"] for row in rows.rows] == [batch[place].value for place in (0, 2, 3)]
    assert vector_rows([*batch, *messages("FeatureVector", [vector(1)])]).rows == [
        {
            "transaction_id": "tx-1", "card_id": "card-1", "computed_at": START + 1,
            "record": avro.encode("FeatureVector", vector(1)),
        }
    ]  # fmt: skip
