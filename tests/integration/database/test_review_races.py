"""Many analysts and senders at once, in a real database of each kind: each case has one of them."""

from __future__ import annotations

import threading
from collections.abc import Callable

from database.core.database import Database
from database.review.case_labels import lease_labels
from database.review.case_work import MAX_HELD, claim, claim_next, decide
from database.review.cases import list_cases, read_case
from tests.support.database.cases import CLAIM, NOW, UNDO, decided_case, decision, opened

CASES, ANALYSTS = 24, 12


def at_once(database: Database, work: Callable[[str], None]) -> None:
    """Let ANALYSTS work at the same time; fails if one of them did."""
    start = threading.Barrier(ANALYSTS)
    errors: list[BaseException] = []

    def run(person: str) -> None:
        try:
            start.wait()
            work(person)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(f"p{n}",)) for n in range(ANALYSTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_two_never_hold_a_case_however_many_ask_at_once(database: Database) -> None:
    opened(database, *(decision(n) for n in range(CASES)))
    taken: list[tuple[int, str]] = []

    def work(person: str) -> None:
        while True:
            with database.begin() as connection:
                case = claim_next(connection, person, NOW, CLAIM)
                if case is None:
                    return
                assert case.claimed_by == person
                assert decide(connection, case.case_id, person, "GENUINE", person, NOW) is not None
            taken.append((case.case_id, person))

    at_once(database, work)
    assert len(taken) == len({number for number, _ in taken}) == CASES
    with database.read() as connection:
        decided = list_cases(connection, NOW, "decided", "ann", limit=1000)
    assert {(case.case_id, case.note) for case in decided} == set(taken)


def test_of_many_who_claim_the_same_case_one_gets_it(database: Database) -> None:
    cases = opened(database, *(decision(n) for n in range(6)))
    got: dict[int, list[str]] = {case.case_id: [] for case in cases[:MAX_HELD]}

    def work(person: str) -> None:
        for number in got:
            with database.begin() as connection:
                if claim(connection, number, person, NOW, CLAIM) is not None:
                    got[number].append(person)

    at_once(database, work)
    assert [len(holders) for holders in got.values()] == [1] * MAX_HELD
    with database.read() as connection:
        for number, (holder,) in got.items():
            case = read_case(connection, number)
            assert case is not None
            assert case.holder(NOW) == holder


def test_of_many_senders_one_takes_a_label(database: Database) -> None:
    numbers = [decided_case(database, n) for n in range(10)]
    taken: list[int] = []

    def work(_: str) -> None:
        for _round in range(5):
            with database.begin() as connection:
                taken.extend(lease_labels(connection, NOW + UNDO, UNDO, limit=3))

    at_once(database, work)
    assert sorted(taken) == sorted(numbers)
