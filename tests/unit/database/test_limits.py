"""Times and limits of what is stored, in figures, and who may do what at their edges."""

from __future__ import annotations

import pytest

from database.accounts import api_keys, attempts, passwords, people, sessions
from database.core.database import Database
from database.core.positions import move_positions, read_positions
from database.decisions.decisions import add_decisions, answers
from database.review.case_labels import lease_labels
from database.review.case_work import claim, claim_next
from database.review.cases import open_cases, urgency
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
        people.change_password(connection, "jane", "changed", now_ms=NOW)
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
    passwords.check("abcdefgh-123", "jane")
    passwords.check("abcdefgh" * 32, "jane")
    with pytest.raises(ConfigurationError, match="at least 12"):
        passwords.check("abcdefgh-12", "jane")
    with pytest.raises(ConfigurationError, match="at most 256"):
        passwords.check("abcdefgh" * 32 + "i", "jane")


@on_sqlite
def test_a_key_opens_nothing_from_the_moment_it_expires(database: Database) -> None:
    with database.begin() as connection:
        made, _ = api_keys.create(
            connection, "shop", ["score"], by="test", now_ms=NOW, expires_at=NOW + HOUR
        )
    assert [made.valid(NOW + HOUR - 1), made.valid(NOW + HOUR)] == [True, False]
