"""Logging in and out, sessions, one-time passwords."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable

import pytest
from argon2 import PasswordHasher
from sqlalchemy import Connection, select

from database.accounts import audit, people
from database.accounts.passwords import Passwords
from database.core.database import Database
from database.core.tables import attempts as attempts_table
from database.core.tables import people as people_table
from database.core.tables import sessions as sessions_table
from schemas.errors import DatabaseUnavailable
from tests.support.dashboard.site import ADDRESS, CHEAP, PASSWORD, Site, log_in

HOUR = 3_600_000


def actions(site: Site) -> list[tuple[str, str]]:
    with site.database.read() as connection:
        return [(entry.who, entry.action) for entry in audit.entries(connection)]


def one_time_password(site: Site) -> str:
    """Return that of a new admin, jane."""
    one_time, hashed = site.passwords.one_time()
    now_ms = site.clock.now_ms()
    with site.database.begin() as connection:
        people.add(connection, "jane", "admin", hashed, by="test", now_ms=now_ms)
    return one_time


def test_log_in_opens_a_session_and_leads_to_the_page_asked_for(site: Site) -> None:
    site.add("jane", "viewer")
    client = site.stranger()
    asked = client.get("/models?changed=promote")
    assert asked.headers["location"] == "/login?next=%2Fmodels%3Fchanged%3Dpromote"
    assert 'value="/models?changed=promote"' in client.get(asked.headers["location"]).text
    answer = log_in(client, " Jane ", next="/models?changed=promote")
    assert (answer.status_code, answer.headers["location"]) == (303, "/models?changed=promote")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie
    assert client.get("/models").status_code == 200
    assert client.get("/login").headers["location"] == "/"
    assert actions(site)[0] == ("jane", "log-in")


def test_with_tls_the_cookie_is_secure_and_the_browser_told_to_stay_with_tls(site: Site) -> None:
    site.add("jane", "viewer")
    secure = ADDRESS.replace("http", "https")
    client = site.stranger(base_url=secure, headers={"Origin": secure, "Accept": "text/html"})
    answer = log_in(client, "jane")
    assert answer.headers["set-cookie"].startswith("__Host-session=")
    assert "Secure" in answer.headers["set-cookie"]
    assert "Path=/" in answer.headers["set-cookie"]
    assert answer.headers["strict-transport-security"].startswith("max-age=31536000")
    assert client.get("/models").status_code == 200
    assert "strict-transport-security" not in site.stranger().get("/login").headers


def test_only_the_hash_of_the_token_is_stored_and_each_log_in_makes_a_new_one(site: Site) -> None:
    site.add("jane", "viewer")
    client = site.stranger()
    log_in(client, "jane")
    first = client.cookies["session"]
    log_in(client, "jane")
    second = client.cookies["session"]
    assert first != second
    assert len(second) == 43  # 256 bits
    with site.database.read() as connection:
        stored = connection.scalars(select(sessions_table.c.token_hash)).all()
    assert stored == [hashlib.sha256(second.encode()).digest()]  # the first one has ended
    replayed = site.stranger(cookies={"session": first})
    assert replayed.get("/models").status_code == 303


def test_a_session_given_by_somebody_else_is_not_taken_over(site: Site) -> None:
    site.add("jane", "viewer")
    client = site.stranger(cookies={"session": "planted" * 6})
    answer = log_in(client, "jane")
    assert "planted" not in answer.headers["set-cookie"]
    assert site.stranger(cookies={"session": "planted" * 6}).get("/models").status_code == 303


def test_log_out_ends_the_session_for_good(site: Site) -> None:
    client = site.person("viewer")
    token = client.cookies["session"]
    answer = client.post("/logout")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert 'session=""' in answer.headers["set-cookie"]
    replayed = site.stranger(cookies={"session": token})
    assert replayed.get("/models").status_code == 303
    assert actions(site)[0] == ("viewer", "log-out")


def test_a_session_expires(site: Site) -> None:
    client = site.person("viewer")
    site.clock.advance(12 * HOUR - 1)
    assert client.get("/models").status_code == 200
    site.clock.advance(1)
    assert client.get("/models").status_code == 303


@pytest.mark.parametrize(
    "forged", ["", "x", "'; DROP TABLE sessions; --", "é" * 43, "x" * 5_000, "\x00"]
)
def test_forged_tokens_are_worth_nothing(site: Site, forged: str) -> None:
    site.person("viewer")
    client = site.stranger()
    cookie = f"session={forged}".encode()
    assert client.get("/models", headers={b"Cookie": cookie}).status_code == 303


def test_wrong_names_and_passwords_are_refused_in_the_same_words(site: Site) -> None:
    site.add("jane", "viewer")
    site.add("gone", "viewer")
    with site.database.begin() as connection:
        people.set_disabled(connection, "gone", True, by="test", now_ms=0)
    texts = set()
    for name, password in (("jane", "wrong"), ("nobody", PASSWORD), ("gone", PASSWORD), ("", "")):
        answer = log_in(site.stranger(), name, password)
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        assert "Username or password is wrong." in answer.text
        texts.add(answer.text.replace(f'value="{name}"', 'value=""').replace(" autofocus", ""))
    assert len(texts) == 1
    failed = [who for who, action in actions(site) if action == "log-in failed"]
    assert [failed[1], failed[3]] == ["gone", "jane"]
    assert [who.startswith("unknown name ") for who in failed] == [True, False, True, False]


def test_who_does_not_exist_costs_as_much_argon2_as_who_does() -> None:
    counted: list[str] = []

    class Counting(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]
            counted.append(str(hash).split("$p=")[0].rsplit("$", 1)[0])
            return super().verify(hash, password)

    passwords = Passwords(Counting(time_cost=1, memory_cost=8, parallelism=1))
    stored = passwords.hash(PASSWORD)
    assert passwords.verify(stored, PASSWORD)
    assert not passwords.verify(stored, "wrong")
    assert not passwords.verify(None, PASSWORD)
    assert not passwords.verify(stored, "x" * 100_000)
    parameters = {each.rsplit("$", 2)[0] for each in counted}
    assert (len(counted), len(parameters)) == (4, 1)


@pytest.mark.parametrize(
    "elsewhere",
    [
        "//evil.test",
        "https://evil.test",
        "/\\evil.test",
        "/\t/evil.test",
        "javascript:alert(1)",
        "/%0d\r",
    ],
)
def test_log_in_leads_to_no_other_site(site: Site, elsewhere: str) -> None:
    site.add("jane", "viewer")
    assert log_in(site.stranger(), "jane", next=elsewhere).headers["location"] == "/"


def test_a_one_time_password_opens_only_the_page_that_replaces_it(site: Site) -> None:
    one_time = one_time_password(site)
    client = site.stranger()
    log_in(client, "jane", one_time)
    assert client.get("/people").headers["location"] == "/password"
    client.headers["X-CSRF-Token"] = site.csrf(client)
    script = client.post("/people", data={"username": "x"}, headers={"Accept": "*/*"})
    assert script.status_code == 403
    assert "Choose a password" in client.get("/password").text

    def change(old: str, new: str, again: str | None = None) -> str:
        form = {"old": old, "new": new, "again": new if again is None else again}
        return str(client.post("/password", data=form).text)

    assert "at least 12 characters" in change(one_time, "short")
    assert "contains the username" in change(one_time, "xx-jane-jane-xx")
    assert "common words" in change(one_time, "passwordpassword")
    assert "repeats a few characters" in change(one_time, "abababababab")
    assert "is the same as the present one" in change(one_time, one_time)
    assert "differ" in change(one_time, PASSWORD, PASSWORD + "x")
    assert "current password is wrong" in change("wrong", PASSWORD)
    before = client.cookies["session"]
    assert change(one_time, PASSWORD) == ""
    assert client.cookies["session"] != before
    assert client.get("/people").status_code == 200
    assert site.stranger(cookies={"session": before}).get("/people").status_code == 303
    assert log_in(site.stranger(), "jane", one_time).status_code == 401
    assert log_in(site.stranger(), "jane").status_code == 303


def test_a_one_time_password_expires_and_says_what_to_do(site: Site) -> None:
    one_time = one_time_password(site)
    site.clock.advance(people.ONE_TIME_MS - 1)
    client = site.stranger()
    assert log_in(client, "jane", one_time).headers["location"] == "/"
    client.headers["X-CSRF-Token"] = site.csrf(client)
    site.clock.advance(1)
    changed = client.post(
        "/password", data={"old": one_time, "new": PASSWORD, "again": PASSWORD}
    )  # with a session that was opened in time
    refused = log_in(site.stranger(), "jane", one_time)
    for answer in (changed, refused):
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        assert "one-time password has expired" in answer.text
        assert "python -m dashboard people password NAME" in answer.text
    assert "expired" not in log_in(site.stranger(), "jane", "wrong").text
    with site.database.read() as connection:
        told = [entry.after for entry in audit.entries(connection, action="log-in failed")]
    assert [json.loads(after or "")["reason"] for after in told] == ["wrong", "expired"]
    admin = site.person("admin")
    assert "password expired" in admin.get("/people").text
    made = re.search(r'class="secret">([^<]+)<', admin.post("/people/jane/password").text)
    assert made is not None
    assert log_in(site.stranger(), "jane", made[1]).status_code == 303


def test_a_password_of_ones_own_does_not_expire(site: Site) -> None:
    site.add("jane", "viewer")
    site.clock.advance(10 * people.ONE_TIME_MS)
    assert log_in(site.stranger(), "jane").status_code == 303


def test_changes_of_a_person_end_all_their_sessions(site: Site) -> None:
    site.add("jane", "viewer")

    now = site.clock.now_ms()
    hashed = site.passwords.hash(PASSWORD)

    def change_own(connection: Connection) -> None:
        present = people.stored_password(connection, "jane")
        assert present is not None
        assert people.change_password(
            connection, "jane", hashed, replaces=present.hashed, now_ms=now
        )

    changes: list[Callable[[Connection], None]] = [
        lambda connection: people.set_role(connection, "jane", "analyst", by="x", now_ms=now),
        change_own,
        lambda connection: people.reset_password(connection, "jane", hashed, by="x", now_ms=now),
        lambda connection: people.set_disabled(connection, "jane", True, by="x", now_ms=now),
    ]
    for change in changes:
        clients = site.stranger(), site.stranger()
        for client in clients:
            log_in(client, "jane")
            assert client.get("/login").status_code == 303  # is logged in
        with site.database.begin() as connection:
            change(connection)
        assert [client.get("/login").status_code for client in clients] == [200, 200]


def test_a_hash_of_older_parameters_is_renewed_at_log_in(site: Site) -> None:
    site.add("jane", "viewer")
    old = PasswordHasher(time_cost=2, memory_cost=8, parallelism=1).hash(PASSWORD)
    with site.database.begin() as connection:
        present = people.stored_password(connection, "jane")
        assert present is not None
        people.change_password(connection, "jane", old, replaces=present.hashed, now_ms=0)
    log_in(site.stranger(), "jane")
    with site.database.read() as connection:
        stored = connection.scalar(select(people_table.c.password_hash))
    assert stored != old
    assert stored is not None
    assert not CHEAP.check_needs_rehash(stored)
    assert log_in(site.stranger(), "jane").status_code == 303


class Interrupted(Passwords):
    """Something happens while a password is verified, which takes its time."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        super().__init__(CHEAP)
        self._meanwhile = meanwhile

    def verify(self, stored: str | None, password: str) -> bool:
        right = super().verify(stored, password)
        self._meanwhile()
        return right


@pytest.mark.parametrize("change", ["disabled", "another password"])
def test_who_is_shut_out_while_the_password_is_verified_gets_no_session(
    site: Site, change: str
) -> None:
    hashed = site.passwords.hash("quite another password")

    def meanwhile() -> None:
        with site.database.begin() as connection:
            if change == "disabled":
                people.set_disabled(connection, "jane", True, by="admin", now_ms=0)
            else:
                people.reset_password(connection, "jane", hashed, by="admin", now_ms=0)

    interrupted = Site(site.database, passwords=Interrupted(meanwhile))
    interrupted.add("jane", "viewer")
    answer = log_in(interrupted.stranger(), "jane")
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    with site.database.read() as connection:
        assert connection.scalars(select(sessions_table.c.token_hash)).all() == []


def test_a_reset_by_an_admin_is_not_undone_by_a_change_under_way(site: Site) -> None:
    """An intruder who changes the password at the moment of the reset must not keep the account."""
    reset = site.passwords.hash("the one-time password of the reset")

    def meanwhile() -> None:
        with site.database.begin() as connection:
            people.reset_password(connection, "jane", reset, by="admin", now_ms=0)

    jane = site.person("viewer", "jane")
    interrupted = Site(site.database, passwords=Interrupted(meanwhile))
    client = interrupted.stranger(cookies={"session": jane.cookies["session"]})
    client.headers["X-CSRF-Token"] = site.csrf(jane)
    new = "chosen by the intruder"
    answer = client.post("/password", data={"old": PASSWORD, "new": new, "again": new})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    with site.database.read() as connection:
        assert connection.scalar(select(people_table.c.password_hash)) == reset
        assert connection.scalars(select(sessions_table.c.token_hash)).all() == []
        assert audit.entries(connection, action="password changed", who="jane")[1:] == []


def test_what_is_typed_in_place_of_a_name_is_not_kept(site: Site) -> None:
    """Somebody types their password into the wrong field."""
    typed = "my secret password"
    for _ in range(2):
        assert log_in(site.stranger(), typed, "jane").status_code == 401
    with site.database.read() as connection:
        first, second = audit.entries(connection, action="log-in failed")
        stored = connection.execute(select(attempts_table.c.key)).scalars().all()
    assert first.who == first.subject == second.who
    assert re.fullmatch("unknown name [0-9a-f]{16}", first.who)
    assert not any("secret" in key for key in stored)


def test_an_unreachable_database_says_nothing_to_strangers(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: Database) -> None:
        raise DatabaseUnavailable("postgresql://db.internal:5432 does not answer")

    client = site.person("viewer")
    monkeypatch.setattr(Database, "read", away)
    monkeypatch.setattr(Database, "begin", away)
    bogus = site.stranger(cookies={"session": "bogus"})
    for answer in (
        bogus.get("/models"),
        bogus.get("/models", headers={"Accept": "*/*"}),
        log_in(site.stranger(), "jane"),
        client.get("/models"),
    ):
        assert answer.status_code == 503
        assert "cannot answer at the moment" in answer.text
        assert "db.internal" not in answer.text
