"""What the store knows around a transaction, on SQLite and PostgreSQL."""

from __future__ import annotations

from database.core.database import Database
from database.decisions.transaction_evidence import card_around, case_of, vectors_before
from database.review.cases import open_cases
from tests.integration.database.test_decisions import add, attach
from tests.support.database.stored import START, decision, vector

MINUTE = 60_000


def fill(database: Database) -> list[int]:
    """Store ten transactions of one card, a minute apart, and one of another; return the times."""
    times = [START + number * MINUTE for number in range(10)]
    rows = [
        decision(
            number, card_id="card-1", event_time=time,
            decision="REVIEW" if number == 4 else "APPROVE",
        )
        for number, time in enumerate(times)
    ]  # fmt: skip
    add(database, *rows, decision(99, card_id="card-2", event_time=times[3]))
    attach(
        database,
        *(
            vector(number, card_id="card-1", event_time=time)
            for number, time in enumerate(times)
            if number != 2
        ),
        vector(99, card_id="card-2", event_time=times[3]),
    )
    with database.begin() as connection:
        open_cases(connection, [rows[4]], START)
    return times


def numbers(texts: list[str]) -> list[int]:
    return [int(text.removeprefix("tx-")) for text in texts]


def test_the_card_around_a_moment(database: Database) -> None:
    times = fill(database)
    with database.read() as connection:
        found = card_around(connection, "card-1", times[5], before=3, after=2)
        last = card_around(connection, "card-1", times[9], before=2, after=5)
    assert numbers([past.decision["transaction_id"] for past in found]) == [7, 6, 5, 4, 3]
    assert numbers([past.decision["transaction_id"] for past in last]) == [9, 8]
    assert {past.verdict for past in found} == {None}


def test_vectors_of_the_card_before_a_moment(database: Database) -> None:
    times = fill(database)
    with database.read() as connection:
        found = vectors_before(connection, "card-1", times[4], 3)
    assert numbers([each["transaction"]["transaction_id"] for each in found]) == [3, 1, 0]


def test_the_case_of_a_transaction(database: Database) -> None:
    fill(database)
    with database.read() as connection:
        case = case_of(connection, "tx-4", "card-1")
        assert case is not None
        assert case.verdict is None
        assert case_of(connection, "tx-5", "card-1") is None
        assert case_of(connection, "tx-4", "card-2") is None
