"""Review cases in a real database of each kind: opened once, held by one, decided, sent once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import insert

from database.accounts import audit
from database.core.database import Database
from database.core.tables import vectors
from database.review.case_evidence import neighbours, similar_cases
from database.review.case_labels import LEASE_MS, labels_sent, lease_labels, unsent_labels
from database.review.case_work import (
    MAX_HELD,
    claim,
    claim_held,
    claim_next,
    decide,
    release,
    renew,
    settle,
    undo,
)
from database.review.cases import DOUBLING_MS, Case, count_cases, list_cases, open_cases, read_case
from schemas.codec import avro
from schemas.records import Label
from tests.support.database.cases import CLAIM, MINUTE, NOW, UNDO, decided_case, decision, opened
from tests.support.scorer.stand_ins import vector


def shown(database: Database, which: Any, person: str = "ann", now: int = NOW) -> list[str]:
    with database.read() as connection:
        return [case.transaction_id for case in list_cases(connection, now, which, person)]


def test_only_review_opens_a_case_and_only_once(database: Database) -> None:
    decided = [decision(n) for n in range(1200)]
    decided += [decision(2000, decision="BLOCK"), decision(2001, decision="APPROVE"), decision(3)]
    with database.begin() as connection:
        assert open_cases(connection, decided, NOW) == 1200
        assert open_cases(connection, [*decided[:600], decision(1200)], NOW + 5) == 1
        assert open_cases(connection, [decision(3, card_id="another")], NOW) == 1
        assert open_cases(connection, [], NOW) == 0
    with database.read() as connection:
        assert len(list_cases(connection, NOW, "all", "ann", limit=10_000)) == 1202


def test_the_order_is_by_value_and_age(database: Database) -> None:
    opened(
        database,
        decision(1, amount=10_000),
        decision(2, amount=90_000),
        decision(3, amount=10_000, waited_ms=4 * DOUBLING_MS),
        decision(4, amount=20_000, waited_ms=DOUBLING_MS // 2),
    )
    assert shown(database, "all") == ["t3", "t2", "t4", "t1"]


def test_a_claim_holds_against_others_ends_and_is_renewed(database: Database) -> None:
    (case,) = opened(database, decision(1))
    number = case.case_id
    with database.begin() as connection:
        held = claim(connection, number, "ann", NOW, CLAIM)
        assert held is not None
        assert held.holder(NOW) == "ann"
        assert claim(connection, number, "bob", NOW + CLAIM - 1, CLAIM) is None
        assert claim_next(connection, "bob", NOW, CLAIM) is None
        assert renew(connection, number, "bob", NOW, CLAIM) is None
        renewed = renew(connection, number, "ann", NOW + 1000, CLAIM)
        assert renewed is not None
        assert renewed.claimed_until == NOW + 1000 + CLAIM
        assert claim(connection, number, "bob", NOW + CLAIM + 999, CLAIM) is None
        taken = claim(connection, number, "bob", NOW + 1000 + CLAIM, CLAIM)
        assert taken is not None
        assert taken.holder(NOW + 1000 + CLAIM) == "bob"
        later = NOW + 1001 + CLAIM
        assert renew(connection, number, "ann", later, CLAIM) is None
        assert decide(connection, number, "ann", "FRAUD", "", later) is None
        assert release(connection, number, "ann", NOW) is None
        assert claim(connection, -1, "ann", NOW, CLAIM) is None


def test_released_a_case_is_free_and_next_takes_the_most_urgent(database: Database) -> None:
    cases = opened(database, *(decision(n, amount=1000 * (n + 1)) for n in range(8)))
    with database.begin() as connection:
        first = claim_next(connection, "ann", NOW, CLAIM)
        second = claim_next(connection, "bob", NOW, CLAIM)
        assert first is not None
        assert second is not None
        assert [first.case_id, second.case_id] == [case.case_id for case in cases[:2]]
    assert shown(database, "mine") == [first.transaction_id]
    assert shown(database, "free") == [case.transaction_id for case in cases[2:]]
    with database.begin() as connection:
        given = release(connection, first.case_id, "ann", NOW)
        assert given is not None
        assert given.holder(NOW) is None
        again = claim_next(connection, "bob", NOW, CLAIM)
        assert again is not None
        assert again.case_id == first.case_id


def test_nobody_hoards_cases(database: Database) -> None:
    cases = opened(database, *(decision(n) for n in range(MAX_HELD + 2)))
    numbers = [case.case_id for case in cases]

    def following(leave: int = 0, person: str = "ann") -> int | None:
        case = claim_next(connection, person, NOW, CLAIM, leave)
        return None if case is None else case.case_id

    with database.begin() as connection:
        held = [following() for _ in range(MAX_HELD)]
        assert held == numbers[:MAX_HELD]
        assert claim(connection, numbers[-1], "ann", NOW, CLAIM) is None
        assert claim(connection, numbers[0], "ann", NOW, CLAIM) is not None  # hers already
        assert [following(leave=number) for number in numbers[:MAX_HELD]] == [*held[1:], held[0]]
        assert following(person="bob") == numbers[MAX_HELD]
        assert release(connection, numbers[0], "ann", NOW) is not None
        assert following(leave=numbers[0]) == numbers[-1]


def test_next_comes_back_to_what_is_held_when_nothing_is_free(database: Database) -> None:
    one, other = (case.case_id for case in opened(database, decision(1), decision(2)))
    with database.begin() as connection:
        assert claim(connection, one, "ann", NOW, CLAIM) is not None
        assert claim_held(connection, "ann", NOW, CLAIM, leave=one) is None
        assert claim(connection, other, "ann", NOW, CLAIM) is not None
        again = claim_next(connection, "ann", NOW, CLAIM, leave=other)
        assert again is not None
        assert again.case_id == one
        assert claim_next(connection, "bob", NOW, CLAIM) is None


def test_every_action_is_audited_with_before_and_after(database: Database) -> None:
    (case,) = opened(database, decision(1))
    number = case.case_id
    with database.begin() as connection:
        claim(connection, number, "ann", NOW, CLAIM)
        claim(connection, number, "ann", NOW + 1, CLAIM)  # for longer
        claim(connection, number, "bob", NOW + 2, CLAIM)  # refused
        release(connection, number, "bob", NOW + 2)  # refused
        release(connection, number, "ann", NOW + 3)
        claim(connection, number, "bob", NOW + 4, CLAIM)
        decide(connection, number, "bob", "FRAUD", "stolen", NOW + 5)
        undo(connection, number, "bob", NOW + 6, undo_ms=UNDO, claim_ms=CLAIM)
        found = audit.entries(connection, subject="t1")[::-1]
    assert [(entry.who, entry.action, entry.at - NOW) for entry in found] == [
        ("ann", "case claimed", 0),
        ("ann", "case released", 3),
        ("bob", "case claimed", 4),
        ("bob", "verdict", 5),
        ("bob", "verdict undone", 6),
    ]
    states = [json.loads(text or "") for text in (found[3].before, found[3].after)]
    assert [state["verdict"] for state in states] == [None, "FRAUD"]
    assert [state["note"] for state in states] == [None, "6 characters"]
    assert found[4].before == found[3].after


def test_a_verdict_can_be_undone_for_a_while(database: Database) -> None:
    (case,) = opened(database, decision(1))
    number = case.case_id
    with database.begin() as connection:
        assert decide(connection, number, "ann", "FRAUD", "", NOW) is None  # not claimed
        claim(connection, number, "ann", NOW, CLAIM)
        done = decide(connection, number, "ann", "FRAUD", "called the customer", NOW)
        assert done is not None
        assert (done.verdict, done.note, done.decided_by) == ("FRAUD", "called the customer", "ann")
        assert done.undo_until(UNDO) == NOW + UNDO
        assert decide(connection, number, "ann", "GENUINE", "", NOW) is None
        assert claim(connection, number, "bob", NOW + 2 * CLAIM, CLAIM) is None
        options = {"undo_ms": UNDO, "claim_ms": CLAIM}
        assert undo(connection, number, "bob", NOW, **options) is None
        back = undo(connection, number, "ann", NOW + UNDO - 1, **options)
        assert back is not None
        assert (back.verdict, back.decided_at, back.note) == (None, None, "called the customer")
        assert back.holder(NOW + UNDO - 1) == "ann"
        assert lease_labels(connection, NOW + 10 * UNDO, UNDO) == {}
        assert decide(connection, number, "ann", "GENUINE", "", NOW + UNDO) is not None
        assert undo(connection, number, "ann", NOW + 2 * UNDO, **options) is None  # too late


def test_a_label_is_due_once_and_then_not_undone(database: Database) -> None:
    number = decided_case(database, 1)
    with database.begin() as connection:
        assert lease_labels(connection, NOW + UNDO - 1, UNDO) == {}
        assert unsent_labels(connection) == 1
        taken = lease_labels(connection, NOW + UNDO, UNDO)
        assert lease_labels(connection, NOW + UNDO + LEASE_MS - 1, UNDO) == {}
        # Another machine's clock is behind, and thinks that it may still be undone.
        assert undo(connection, number, "ann", NOW, undo_ms=UNDO, claim_ms=CLAIM) is None
    assert taken == {
        number: {
            "transaction_id": "t1",
            "card_id": "card-1",
            "label": "FRAUD",
            "source": "ANALYST",
            "transaction_time": NOW - 50,
            "label_time": NOW,
        }
    }
    with database.begin() as connection:
        again = lease_labels(connection, NOW + UNDO + LEASE_MS, UNDO)
        assert avro.encode("Label", again[number]) == avro.encode("Label", taken[number])
        labels_sent(connection, again, NOW + UNDO + LEASE_MS)
        assert unsent_labels(connection) == 0
        assert lease_labels(connection, NOW + 100 * LEASE_MS, UNDO) == {}


def chargeback(case: Case, **changes: Any) -> Label:
    made: Any = {
        "transaction_id": case.transaction_id,
        "card_id": case.card_id,
        "label": "FRAUD",
        "source": "CHARGEBACK",
        "transaction_time": case.event_time,
        "label_time": NOW,
    }
    return made | changes  # type: ignore[no-any-return]


def test_a_chargeback_settles_what_is_not_yet_on_its_way(database: Database) -> None:
    free, held, fresh, final = opened(database, *(decision(n) for n in range(4)))
    with database.begin() as connection:
        for case, now in ((final, NOW - UNDO), (held, NOW), (fresh, NOW)):
            claim(connection, case.case_id, "ann", now, CLAIM)
            if case is not held:
                assert decide(connection, case.case_id, "ann", "GENUINE", "fine", now)
        assert set(lease_labels(connection, NOW, UNDO)) == {final.case_id}
        labels = [chargeback(case) for case in (free, held, fresh, final)]
        assert settle(connection, [chargeback(free, source="CUSTOMER")], NOW) == 0
        assert settle(connection, [chargeback(free, card_id="another")], NOW) == 0
        assert settle(connection, labels, NOW + 1) == 3
        assert settle(connection, labels, NOW + 2) == 0
        settled = [read_case(connection, case.case_id) for case in (free, held, fresh)]
        kept = read_case(connection, final.case_id)
        for one in settled:
            assert one is not None
            assert (one.verdict, one.settled, one.claimed_by) == ("FRAUD", True, None)
            assert one.undo_until(UNDO) == 0
            number = one.case_id
            assert decide(connection, number, "ann", "GENUINE", "", NOW + 2) is None
            assert claim(connection, number, "bob", NOW + 2, CLAIM) is None
            assert undo(connection, number, "ann", NOW + 2, undo_ms=UNDO, claim_ms=CLAIM) is None
        assert kept is not None
        assert (kept.verdict, kept.decided_by) == ("GENUINE", "ann")
        assert lease_labels(connection, NOW + 2 * UNDO, UNDO).keys() == {final.case_id}
        told = audit.entries(connection, action="case settled")
    assert [(entry.who, entry.subject) for entry in told[::-1]] == [
        ("CHARGEBACK", case.transaction_id)
        for case in sorted((free, held, fresh), key=lambda case: case.case_id)
    ]
    before = {entry.subject: json.loads(entry.before or "") for entry in told}
    assert before[fresh.transaction_id]["verdict"] == "GENUINE"
    assert before[held.transaction_id]["claimed_by"] == "ann"


def test_labels_are_taken_oldest_first_in_parts(database: Database) -> None:
    numbers = [decided_case(database, n, at=NOW - n * MINUTE) for n in range(5)]
    with database.begin() as connection:
        first = lease_labels(connection, NOW + UNDO, UNDO, limit=3)
        second = lease_labels(connection, NOW + UNDO, UNDO, limit=3)
    assert list(first) == numbers[:1:-1]
    assert list(second) == [numbers[1], numbers[0]]


def test_counters_and_lists(database: Database) -> None:
    opened(database, *(decision(n, waited_ms=n * MINUTE) for n in range(5)))
    decided_case(database, 99, at=NOW)
    with database.begin() as connection:
        claim_next(connection, "bob", NOW, CLAIM)
        counters = count_cases(connection, NOW, NOW - 1)
        assert (counters.free, counters.claimed, counters.decided_today) == (4, 1, 1)
        assert count_cases(connection, NOW, NOW + 1).decided_today == 0
        assert counters.median_age_ms == MINUTE  # of 0, 0, 1, 2 and 3
        assert count_cases(connection, NOW + CLAIM, NOW).claimed == 0
    assert len(shown(database, "decided")) == 1
    assert len(shown(database, "all")) == 5
    assert len(shown(database, "mine", "bob")) == 1
    assert shown(database, "mine", "bob", NOW + CLAIM) == []


def vector_row(number: int, device: str | None) -> dict[str, Any]:
    """Return the row of a vector as the store writes it."""
    message = vector((0, number), transaction_id=f"t{number}", device_id=device)
    return {
        "transaction_id": f"t{number}",
        "card_id": f"card-{number % 7}",
        "computed_at": NOW,
        "record": message,
    }


def test_similar_cases_are_of_the_same_device(database: Database) -> None:
    with database.begin() as connection:
        rows = [vector_row(1, "d-1"), vector_row(2, "d-2"), vector_row(3, "d-1")]
        connection.execute(insert(vectors), [*rows, vector_row(4, None)])
    cases = opened(database, *(decision(n) for n in range(1, 6)))
    found = {}
    with database.read() as connection:
        for case in cases:
            alike = similar_cases(connection, case, "device_id")
            found[case.transaction_id] = [other.transaction_id for other in alike]
    assert found == {"t1": ["t3"], "t2": [], "t3": ["t1"], "t4": [], "t5": []}


def test_similar_cases_are_of_the_same_merchant(database: Database) -> None:
    cases = opened(database, *(decision(n, waited_ms=n * MINUTE) for n in range(15)))
    case = next(case for case in cases if case.transaction_id == "t0")
    with database.read() as connection:
        of_merchant = similar_cases(connection, case, "merchant_id", limit=3)
        assert similar_cases(connection, case, "device_id") == []
    assert [found.transaction_id for found in of_merchant] == ["t3", "t6", "t9"]


def test_neighbours_follow_the_order_of_the_queue(database: Database) -> None:
    cases = opened(database, *(decision(n, amount=1000 * (n // 2 + 10)) for n in range(6)))
    numbers = [case.case_id for case in cases]
    with database.read() as connection:
        found = [neighbours(connection, case) for case in cases]
    assert [before for before, _ in found] == [None, *numbers[:-1]]
    assert [after for _, after in found] == [*numbers[1:], None]


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "'; DROP TABLE cases; --", "ü\u202e"]
)
def test_text_is_kept_as_it_is(database: Database, text: str) -> None:
    (case,) = opened(database, decision(1, merchant_id=text, transaction_id=text))
    with database.begin() as connection:
        claim(connection, case.case_id, "ann", NOW, CLAIM)
        done = decide(connection, case.case_id, "ann", "FRAUD", text, NOW)
        assert done is not None
        assert (done.merchant_id, done.transaction_id, done.note) == (text, text, text)
        (label,) = lease_labels(connection, NOW + UNDO, UNDO).values()
    assert label["transaction_id"] == text
