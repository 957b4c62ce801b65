"""People, sessions, failed log-ins and the audit on SQLite and on PostgreSQL."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import delete, insert, text, update
from sqlalchemy.exc import DBAPIError

from database.accounts import api_keys, attempts, audit, people, sessions
from database.core.database import Database
from database.core.tables import audit as audit_table
from schemas.errors import ConfigurationError
from tests.support.dashboard.site import Site, log_in

NOW = time.time_ns() // 1_000_000


def test_the_audit_can_be_added_to_and_never_changed(database: Database) -> None:
    with database.begin() as connection:
        audit.record(
            connection, who="jane", action="verdict", subject="t-1", after={"é": 1}, now_ms=NOW
        )
    changes = (
        update(audit_table).values(who="nobody"),
        update(audit_table).where(audit_table.c.entry_id == 1).values(after=None),
        delete(audit_table),
        text("DELETE FROM audit WHERE entry_id = 1"),
        text("UPDATE audit SET at = 0"),
    )
    for change in changes:
        with pytest.raises(DBAPIError, match="append-only"), database.begin() as connection:
            connection.execute(change)
    again = insert(audit_table).values(entry_id=1, at=0, who="x", action="x", subject="x")
    with pytest.raises(DBAPIError), database.begin() as connection:
        connection.execute(again)
    if database.file is None:
        with pytest.raises(DBAPIError, match="append-only"), database.begin() as connection:
            connection.execute(text("TRUNCATE audit"))
    else:
        with pytest.raises(DBAPIError, match="append-only"), database.begin() as connection:
            connection.execute(again.prefix_with("OR REPLACE"))
    with database.read() as connection:
        (entry,) = audit.entries(connection)
    assert entry == audit.AuditEntry(1, NOW, "jane", "verdict", "t-1", None, '{"\\u00e9": 1}')


def test_an_entry_counts_only_with_the_change_that_it_tells_of(database: Database) -> None:
    def add_twice() -> None:
        with database.begin() as connection:
            for _ in range(2):
                people.add(connection, "jane", "viewer", "-", by="test", now_ms=NOW)

    with pytest.raises(ConfigurationError, match="jane already exists"):
        add_twice()
    with database.read() as connection:
        assert people.accounts(connection) == []
        assert audit.entries(connection) == []


def test_a_key_is_revoked_and_told_of_once(database: Database) -> None:
    with database.begin() as connection:
        made, _ = api_keys.create(connection, "shop", ["read"], by="test", now_ms=NOW)
    for later in (1, 2):
        with database.begin() as connection:
            api_keys.revoke(connection, made.key_id, by="test", now_ms=NOW + later)
    with database.read() as connection:
        assert [key.revoked_at for key in api_keys.all_keys(connection)] == [NOW + 1]
        told = [(entry.at, entry.action) for entry in audit.entries(connection)]
    assert told == [(NOW + 1, "key revoked"), (NOW, "key created")]


def test_names_that_a_failed_log_in_gave_are_cut(database: Database) -> None:
    with database.begin() as connection:
        audit.record(
            connection, who="x" * 5000, action="log-in failed", subject="y" * 5000, now_ms=NOW
        )
    with database.read() as connection:
        (entry,) = audit.entries(connection)
    assert (len(entry.who), len(entry.subject)) == (audit.MAX_NAME_LENGTH, audit.MAX_NAME_LENGTH)


def test_two_admins_who_disable_one_another_do_not_both_succeed(database: Database) -> None:
    names = ("jane", "omar")
    for round_ in range(10):
        with database.begin() as connection:
            for name in names:
                if round_ == 0:
                    people.add(connection, name, "admin", "-", by="test", now_ms=NOW)
                people.set_disabled(connection, name, False, by="test", now_ms=NOW)
        together = Barrier(2)

        def disable(name: str, together: Barrier = together) -> bool:
            together.wait()
            try:
                with database.begin() as connection:
                    people.set_disabled(connection, name, True, by="test", now_ms=NOW)
            except ConfigurationError:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            done = list(pool.map(disable, names))
        assert sorted(done) == [False, True]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_an_admin_waits_for_another_change_of_admins(database: Database) -> None:
    """On SQLite there is one writer at a time anyway."""
    with database.begin() as connection:
        for name in ("jane", "omar"):
            people.add(connection, name, "admin", "-", by="test", now_ms=NOW)

    def disable(name: str) -> None:
        with database.begin() as connection:
            people.set_disabled(connection, name, True, by="test", now_ms=NOW)

    with ThreadPoolExecutor(1) as pool:
        with database.begin() as first:
            people.set_disabled(first, "jane", True, by="test", now_ms=NOW)
            second = pool.submit(disable, "omar")
            with pytest.raises(TimeoutError):
                second.result(0.3)
        with pytest.raises(ConfigurationError, match="the last admin"):
            second.result(60)


@pytest.mark.parametrize("place", ["disable", "enable", "unlock", "password", "role"])
def test_a_nul_in_a_name_is_nobodys(database: Database, place: str) -> None:
    site = Site(database)
    admin = site.person("admin")
    assert log_in(site.stranger(), "ja\0ne").status_code == 401
    answer = admin.post(f"/people/ja%00ne/{place}", data={"role": "viewer"})
    assert answer.status_code == 409
    assert "there is nobody named" in answer.text
    for asked in ("who", "action", "subject"):
        assert admin.get(f"/audit?{asked}=ja%00ne").status_code == 200
    with database.read() as connection:
        [failed] = audit.entries(connection, action="log-in failed")
    assert failed.who.startswith("unknown name ")


def test_sessions_live_as_long_as_they_may(database: Database) -> None:
    with database.begin() as connection:
        people.add(connection, "jane", "analyst", "-", by="test", now_ms=NOW)
        first = sessions.open_session(connection, "jane", now_ms=NOW, lasts_ms=1000)
        second = sessions.open_session(connection, "jane", now_ms=NOW, lasts_ms=5000)

    def found(token: str, now_ms: int) -> sessions.Session | None:
        with database.read() as connection:
            return sessions.find(connection, token, now_ms=now_ms)

    session = found(first, NOW + 999)
    assert session is not None
    assert (session.username, session.role, session.must_change) == ("jane", "analyst", True)
    assert found(first, NOW + 1000) is None
    other = found(second, NOW + 1000)
    assert other is not None
    assert other.csrf != session.csrf
    with database.begin() as connection:
        sessions.open_session(connection, "jane", now_ms=NOW + 1000, lasts_ms=1000)
        sessions.end(connection, second)
    assert found(first, NOW) is None  # expired ones are deleted by the next log-in
    assert found(second, NOW) is None


def test_guesses_at_the_same_time_are_all_counted(database: Database) -> None:
    key = attempts.account("jane")

    def guess(_: int) -> bool:
        with database.begin() as connection:
            return attempts.begin(connection, key, now_ms=NOW) == 0

    with ThreadPoolExecutor(8) as pool:
        let_in = sum(pool.map(guess, range(24)))
    assert let_in == attempts.FREE["account"]
    with database.read() as connection:
        assert attempts.locked(connection, now_ms=NOW) == {key: NOW + attempts.FIRST_WAIT_MS}


def test_a_log_in_from_end_to_end(database: Database) -> None:
    site = Site(database)
    admin = site.person("admin")
    jane = site.person("viewer", "jane")
    assert admin.post("/people/jane/role", data={"role": "analyst"}).status_code == 303
    assert jane.get("/models").status_code == 303
    assert [log_in(site.stranger(), "jane", "wrong").status_code for _ in range(6)] == [
        *[401] * 5,
        429,
    ]
    assert admin.post("/people/jane/unlock").status_code == 303
    assert log_in(jane, "jane").status_code == 303
    jane.headers["X-CSRF-Token"] = site.csrf(jane)
    assert jane.post("/logout").status_code == 303
    shown = admin.get("/audit").text
    for action in ("role changed", "log-in locked", "person unlocked", "log-out"):
        assert f">{action}</span>" in shown
