"""Times and limits of what is stored, in figures, and who may do what at their edges."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sqlalchemy import select

from database.accounts import api_keys, attempts, passwords, people, sessions
from database.core.database import Database
from database.core.positions import move_positions, read_positions
from database.core.tables import cases
from database.decisions import policies
from database.decisions.decisions import add_decisions, answers
from database.review.case_labels import labels_sent, lease_labels
from database.review.case_work import claim, claim_next
from database.review.cases import delete_closed, open_cases, urgency
from database.store.rows import decision_rows
from runtime.kafka.protocols import Message
from schemas.codec import avro
from schemas.errors import ConfigurationError, Fenced
from tests.support.database.cases import CLAIM, NOW, decided_case, decision, opened
from tests.support.database.stored import START
from tests.support.database.stored import decision as whole_decision

HOUR = 3_600_000
DAY = 24 * HOUR
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@on_sqlite
def test_failures_count_for_a_day_after_the_last_one(database: Database) -> None:
    key = attempts.account("jane")
    with database.begin() as connection:
        for _ in range(5):
            assert attempts.begin(connection, key, now_ms=NOW) == 0
        assert attempts.locked(connection, now_ms=NOW) == {key: NOW + 30_000}
        sixth = NOW + 24 * HOUR - 1
        assert attempts.begin(connection, key, now_ms=sixth) == 0
        assert attempts.locked(connection, now_ms=sixth) == {key: sixth + 60_000}
        assert attempts.begin(connection, key, now_ms=sixth + 24 * HOUR) == 0
        assert attempts.locked(connection, now_ms=sixth + 24 * HOUR) == {}


@on_sqlite
def test_an_address_fails_25_times_before_it_waits(database: Database) -> None:
    key = attempts.ip_address("192.0.2.1")
    with database.begin() as connection:
        for _ in range(24):
            attempts.begin(connection, key, now_ms=NOW)
        assert attempts.locked(connection, now_ms=NOW) == {}
        attempts.begin(connection, key, now_ms=NOW)
        assert attempts.locked(connection, now_ms=NOW) == {key: NOW + 30_000}


def test_the_longest_wait_is_a_quarter_of_an_hour() -> None:
    waits = [attempts.wait_ms(attempts.account("jane"), failures) for failures in (9, 10, 10_000)]
    assert waits == [480_000, 900_000, 900_000]


@on_sqlite
def test_what_is_taken_back_is_one_failure(database: Database) -> None:
    key = attempts.ip_address("192.0.2.1")
    with database.begin() as connection:
        for _ in range(24):
            attempts.begin(connection, key, now_ms=NOW)
        attempts.uncount(connection, key)
        assert attempts.begin(connection, key, now_ms=NOW) == 0
        assert attempts.locked(connection, now_ms=NOW) == {}, "24 again, not 25"
        attempts.begin(connection, key, now_ms=NOW)
        assert attempts.locked(connection, now_ms=NOW) == {key: NOW + 30_000}


@on_sqlite
def test_a_label_that_was_taken_and_not_sent_is_taken_again_after_ten_seconds(
    database: Database,
) -> None:
    number = decided_case(database, 1)
    with database.begin() as connection:
        assert lease_labels(connection, NOW + 59_999, 60_000) == {}
        assert list(lease_labels(connection, NOW + 60_000, 60_000)) == [number]
        assert lease_labels(connection, NOW + 69_999, 60_000) == {}
        assert list(lease_labels(connection, NOW + 70_000, 60_000)) == [number]


@on_sqlite
def test_a_person_holds_five_cases_and_no_more(database: Database) -> None:
    numbers = [case.case_id for case in opened(database, *(decision(n) for n in range(6)))]
    with database.begin() as connection:
        held = [claim(connection, number, "ann", NOW, CLAIM) for number in numbers]
        assert [case is not None for case in held] == [True] * 5 + [False]
        assert claim(connection, numbers[5], "ann", NOW + CLAIM, CLAIM) is not None


@on_sqlite
def test_a_case_is_as_old_as_its_decision(database: Database) -> None:
    """One that a store missed for three hours comes before a new one of four times its value."""
    late = decision(1, waited_ms=3 * HOUR, amount=10_000)
    with database.begin() as connection:
        open_cases(connection, [decision(2, amount=40_000), late], NOW)
        first = claim_next(connection, "ann", NOW, CLAIM)
    assert first is not None
    assert (first.transaction_id, first.opened_at) == ("t1", NOW - 3 * HOUR)


def test_an_hour_of_waiting_doubles_the_value() -> None:
    assert urgency(20_000, 0) == urgency(40_000, 3_600_000)


@on_sqlite
def test_many_keys_are_answered_in_one_call(database: Database) -> None:
    records = [whole_decision(number) for number in range(900)]
    found = [
        Message("decisions", 0, place, START, b"", avro.encode("Decision", record))
        for place, record in enumerate(records)
    ]
    with database.begin() as connection:
        assert add_decisions(connection, decision_rows(found).rows).new == 900
        keys = [(record["transaction_id"], record["card_id"]) for record in records]
        assert answers(connection, keys) == dict.fromkeys(keys, "APPROVE")


@on_sqlite
def test_a_topic_has_positions_of_its_own(database: Database) -> None:
    with database.begin() as connection:
        for topic in ("decisions", "features"):
            move_positions(connection, topic, {0: (None, 10), 1: (None, 10)})
        move_positions(connection, "decisions", {0: (10, 15)})
        assert read_positions(connection, "decisions") == {0: 15, 1: 10}
        assert read_positions(connection, "features") == {0: 10, 1: 10}
    with pytest.raises(Fenced, match=r"decisions\[0\]"), database.begin() as connection:
        move_positions(connection, "decisions", {0: (10, 20)})


@on_sqlite
def test_a_one_time_password_lives_for_three_days(database: Database) -> None:
    with database.begin() as connection:
        people.add(connection, "jane", "viewer", "hash", by="test", now_ms=NOW)
        made = people.stored_password(connection, "jane")
        people.reset_password(connection, "jane", "other", by="test", now_ms=NOW + HOUR)
        again = people.stored_password(connection, "jane")
    assert made is not None
    assert again is not None
    assert [made.expired(NOW + 3 * DAY - 1), made.expired(NOW + 3 * DAY)] == [False, True]
    assert again.one_time_until == NOW + HOUR + 3 * DAY


@on_sqlite
def test_a_disabled_admin_is_none_who_could_help(database: Database) -> None:
    with database.begin() as connection:
        for name in ("jane", "omar", "mia"):
            people.add(connection, name, "admin", "-", by="test", now_ms=NOW)
        for name in ("omar", "mia"):
            people.set_disabled(connection, name, True, by="test", now_ms=NOW)
        with pytest.raises(ConfigurationError, match="jane is the last admin"):
            people.set_disabled(connection, "jane", True, by="test", now_ms=NOW)
        with pytest.raises(ConfigurationError, match="jane is the last admin"):
            people.set_role(connection, "jane", "viewer", by="test", now_ms=NOW)


@on_sqlite
def test_a_hash_is_renewed_only_in_place_of_the_one_that_was_verified(database: Database) -> None:
    """The password may have been changed while the old hash was verified."""
    with database.begin() as connection:
        people.add(connection, "jane", "viewer", "old", by="test", now_ms=NOW)
        assert people.change_password(connection, "jane", "changed", replaces="old", now_ms=NOW)
        people.renew_hash(connection, "jane", "old, renewed", replaces="old")
        assert people.stored_password(connection, "jane") == people.StoredPassword("changed", None)
        people.renew_hash(connection, "jane", "renewed", replaces="changed")
        assert people.stored_password(connection, "jane") == people.StoredPassword("renewed", None)


@on_sqlite
def test_a_session_opened_for_a_disabled_person_opens_nothing(database: Database) -> None:
    with database.begin() as connection:
        people.add(connection, "jane", "viewer", "-", by="test", now_ms=NOW)
        people.set_disabled(connection, "jane", True, by="test", now_ms=NOW)
        token = sessions.open_session(connection, "jane", now_ms=NOW, lasts_ms=HOUR)
        assert sessions.find(connection, token, now_ms=NOW) is None


def test_a_password_has_12_to_256_characters() -> None:
    passwords.check("by the sea.x", "jane")
    passwords.check("hedge and brook " * 16, "jane")
    with pytest.raises(ConfigurationError, match="at least 12"):
        passwords.check("by the sea.", "jane")
    with pytest.raises(ConfigurationError, match="at most 256"):
        passwords.check("hedge and brook " * 16 + "i", "jane")


@on_sqlite
def test_a_key_opens_nothing_from_the_moment_it_expires(database: Database) -> None:
    with database.begin() as connection:
        made, _ = api_keys.create(
            connection, "shop", ["score"], by="test", now_ms=NOW, expires_at=NOW + HOUR
        )
    assert [made.valid(NOW + HOUR - 1), made.valid(NOW + HOUR)] == [True, False]


@on_sqlite
def test_an_address_is_forgiven_a_failure_every_quarter_of_an_hour(database: Database) -> None:
    key = attempts.ip_address("192.0.2.1")
    with database.begin() as connection:
        for quarter in range(30 * 96):  # thirty days of one typo each quarter of an hour
            now = NOW + quarter * 15 * 60_000
            assert attempts.begin(connection, key, now_ms=now) == 0
            assert attempts.wait(connection, key, now_ms=now) == 0
        for _ in range(24):
            assert attempts.begin(connection, key, now_ms=now) == 0
        assert attempts.wait(connection, key, now_ms=now) == 30_000, "as many at once are a lock"


@on_sqlite
def test_fractions_of_a_quarter_count_towards_forgiveness(database: Database) -> None:
    key = attempts.ip_address("192.0.2.1")
    with database.begin() as connection:
        for number in range(1000):
            now = NOW + number * 14 * 60_000  # each a little before it would be forgiven
            if attempts.begin(connection, key, now_ms=now):
                break
        assert number > 300


@on_sqlite
def test_several_keys_are_counted_together_or_not_at_all(database: Database) -> None:
    account, address = attempts.account("jane"), attempts.ip_address("192.0.2.1")
    with database.begin() as connection:
        for _ in range(5):
            assert attempts.begin(connection, account, address, now_ms=NOW) == 0
        for _ in range(100):
            assert attempts.begin(connection, account, address, now_ms=NOW) == 30_000
        for _ in range(20):
            assert attempts.begin(connection, address, now_ms=NOW) == 0
        assert attempts.wait(connection, address, now_ms=NOW) == 30_000


@pytest.mark.parametrize(
    "password",
    [
        "passwordpassword", "Password12345678", "P@ssw0rd2026!!!!", "qwertyuiop1234",
        "abcdefgh-123", "letmeinletmein1!", "1q2w3e4r5t6y", "aaaabbbbccccdddd", "zyxwvutsrqpo",
        "welcome2summer2026", "Jane.Smith-2026", "dashboarddashboard", "iloveyou!iloveyou!",
        "x7x7x7x7x7x7",
    ],
)  # fmt: skip
def test_what_guessers_try_first_is_not_a_password(password: str) -> None:
    with pytest.raises(ConfigurationError, match=r"guessed first|repeats|contains the username"):
        passwords.check(password, "jane.smith")


@pytest.mark.parametrize(
    "password",
    ["a quiet walk by the sea", "Tr3acle-hinge-otter", "fG7#qLz92vPw", "kein Wasser im Brunnen"],
)
def test_words_of_ones_own_are_a_password(password: str) -> None:
    passwords.check(password, "jane.smith")


@on_sqlite
def test_no_person_can_have_the_name_of_a_part_of_the_system(database: Database) -> None:
    """The actors of models and cases are told apart by their names alone."""
    sources = [
        path
        for package in ("dashboard", "loadtest", "monitor", "trainer")
        for path in Path(package).rglob("*.py")
    ]
    actors = {
        found for path in sources for found in re.findall(r'ACTOR.* = "(\w+)"', path.read_text())
    }
    assert actors >= {"online", "trainer", "monitor"}
    for name in (*actors, "chargeback"):
        with (
            pytest.raises(ConfigurationError, match="name of a part of the system"),
            database.begin() as connection,
        ):
            people.add(connection, name, "viewer", "-", by="test", now_ms=NOW)


@on_sqlite
def test_policies_stay_as_long_as_a_decision_under_them(database: Database) -> None:
    def row(version: str, published_at: int) -> dict[str, object]:
        return {
            "version": version, "published_at": published_at, "document": "{}", "actor": "jane",
        }  # fmt: skip

    def versions(before_ms: int) -> list[str]:
        with database.begin() as connection:
            policies.delete_unused(connection, before_ms)
            rows = (policies.of_version(connection, version) for version in ("v1", "v2", "v3"))
            return [found[0].version for found in rows if found]

    with database.begin() as connection:
        policies.add_policies(connection, [row("v1", NOW), row("v2", NOW + DAY)])
        policies.add_policies(connection, [row("v3", NOW + 2 * DAY)])
        policies.mark_used(connection, "v1", NOW + 10 * DAY)  # v2 was refused by the scorers
        policies.mark_used(connection, "v1", NOW + 9 * DAY)
    assert versions(NOW + DAY) == ["v1", "v2", "v3"]
    assert versions(NOW + DAY + 1) == ["v1", "v3"]
    assert versions(NOW + 10 * DAY) == ["v1", "v3"]
    assert versions(NOW + 10 * DAY + 1) == ["v3"]
    assert versions(NOW + 1000 * DAY) == ["v3"], "the newest is in force"


@on_sqlite
def test_closed_cases_are_deleted_with_their_notes_and_unsent_verdicts_stay(
    database: Database,
) -> None:
    sent, unsent = (decided_case(database, number) for number in (1, 2))
    opened(database, decision(3))
    with database.begin() as connection:
        labels = lease_labels(connection, NOW + HOUR, 60_000)
        labels_sent(connection, {sent: labels[sent]}, NOW + HOUR)

    def left(before_ms: int, limit: int = 10) -> list[str]:
        with database.begin() as connection:
            delete_closed(connection, before_ms, limit)
            return sorted(connection.scalars(select(cases.c.transaction_id)))

    assert left(NOW) == ["t1", "t2", "t3"]
    assert left(NOW + 1, limit=0) == ["t1", "t2", "t3"]
    assert left(NOW + 1, limit=1) == ["t2", "t3"]
    assert left(NOW + 1) == ["t2"], f"the label of case {unsent} was not sent"
