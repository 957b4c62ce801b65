"""Guessing is slowed down, by account and by address, and says nothing of who exists."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from database.accounts import attempts, audit, devices, people
from database.accounts.attempts import FIRST_WAIT_MS, FREE, MAX_WAIT_MS
from runtime.metrics import read_exposition
from tests.support.dashboard.site import PASSWORD, Site, log_in

MINUTE = 60_000


def guess(site: Site, name: str, times: int, client: str = "192.0.2.1") -> list[int]:
    browser = site.stranger(client=(client, 1))
    return [log_in(browser, name, "wrong").status_code for _ in range(times)]


def failures(site: Site) -> dict[str, float]:
    return {
        labels["reason"]: value
        for name, labels, value in read_exposition(site.parts.metrics.exposition().decode())
        if name == "fraud_login_failures_total"
    }


@pytest.mark.parametrize("name", ["jane", "nobody"])
def test_after_five_wrong_passwords_an_account_is_locked_whoever_it_is(
    site: Site, name: str
) -> None:
    site.add("jane", "viewer")
    assert guess(site, name, 7) == [401] * 5 + [429] * 2
    answer = log_in(site.stranger(client=("198.51.100.9", 1)), name)
    assert answer.status_code == 429  # even with the right password, from elsewhere
    assert answer.headers["retry-after"] == "30"
    assert "Too many attempts. Try again in 1 minute." in answer.text
    assert "set-cookie" not in answer.headers
    with site.database.read() as connection:
        found = [entry.action for entry in audit.entries(connection) if "log-in" in entry.action]
    assert found[:5] == ["log-in locked"] + ["log-in failed"] * 4


def test_failed_log_ins_are_counted_by_reason(site: Site) -> None:
    site.add("jane", "viewer")
    log_in(site.stranger(), "jane")
    assert failures(site) == {"wrong": 0, "locked": 0, "expired": 0}
    guess(site, "jane", 6)
    guess(site, "nobody", 1)
    assert failures(site) == {"wrong": 6, "locked": 1, "expired": 0}
    client = site.person("viewer")
    client.post("/password", data={"old": "wrong", "new": PASSWORD, "again": PASSWORD})
    assert failures(site) == {"wrong": 6, "locked": 1, "expired": 0}, "that is not a log-in"


def test_the_wait_doubles_with_each_failure_up_to_a_quarter_of_an_hour(site: Site) -> None:
    key = attempts.account("jane")
    waits = [attempts.wait_ms(key, failures) for failures in range(4, 12)]
    assert waits == [0, *(FIRST_WAIT_MS << n for n in range(5)), MAX_WAIT_MS, MAX_WAIT_MS]
    assert attempts.wait_ms(key, 10_000) == MAX_WAIT_MS
    site.add("jane", "viewer")
    guess(site, "jane", 5)
    site.clock.advance(FIRST_WAIT_MS - 1)
    assert guess(site, "jane", 1) == [429]  # a try while locked does not make the wait longer
    site.clock.advance(1)
    assert guess(site, "jane", 2) == [401, 429]
    site.clock.advance(2 * FIRST_WAIT_MS)
    assert log_in(site.stranger(), "jane").status_code == 303
    assert guess(site, "jane", 5) == [401] * 5  # a log-in forgets the failures before it


def test_failures_are_forgotten_after_a_day(site: Site) -> None:
    assert guess(site, "jane", 6)[-1] == 429
    site.clock.advance(attempts.FORGOTTEN_MS)
    assert guess(site, "jane", 5) == [401] * 5


def test_an_address_that_tries_many_names_is_locked_and_others_are_not(site: Site) -> None:
    site.add("jane", "viewer")
    tried = [guess(site, f"name-{n}", 1)[0] for n in range(FREE["address"] + 2)]
    assert tried == [401] * FREE["address"] + [429] * 2
    assert log_in(site.stranger(client=("192.0.2.1", 1)), "jane").status_code == 429
    assert log_in(site.stranger(client=("192.0.2.2", 1)), "jane").status_code == 303


def test_a_client_with_many_ipv6_addresses_counts_as_one() -> None:
    assert attempts.ip_address("2001:db8:0:1::5") == attempts.ip_address("2001:db8:0:1:ffff::1")
    assert attempts.ip_address("2001:db8:0:2::5") != attempts.ip_address("2001:db8:0:1::5")
    assert attempts.ip_address("192.0.2.1") == "address:192.0.2.1"
    assert attempts.ip_address("unknown") == "address:unknown"


def test_people_who_log_in_do_not_lock_their_office(site: Site) -> None:
    site.add("jane", "viewer")
    for _ in range(FREE["address"] + 5):
        assert log_in(site.stranger(client=("192.0.2.1", 1)), "jane").status_code == 303


def test_guesses_at_the_same_time_gain_nothing(site: Site) -> None:
    site.add("jane", "viewer")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: guess(site, "jane", 1)[0], range(16)))
    assert sorted(found) == [401] * 5 + [429] * 11


def test_guessing_the_present_password_of_a_stolen_session_is_locked_too(site: Site) -> None:
    client = site.person("viewer")
    form = {"old": "wrong", "new": PASSWORD + "!", "again": PASSWORD + "!"}
    found = [client.post("/password", data=form).status_code for _ in range(6)]
    assert found == [401] * 5 + [429]
    with site.database.read() as connection:
        told = audit.entries(connection, action="password change failed")
    assert [(entry.who, entry.subject) for entry in told] == [("viewer", "viewer")] * 5
    assert json.loads(told[0].after or "") == {"address": "testclient", "reason": "wrong"}


def test_an_admin_unlocks(site: Site) -> None:
    admin = site.person("admin")
    site.add("jane", "viewer")
    guess(site, "jane", 6)
    assert ">locked<" in admin.get("/people").text
    assert admin.post("/people/jane/unlock").status_code == 303
    assert ">locked<" not in admin.get("/people").text
    assert log_in(site.stranger(), "jane").status_code == 303


def test_a_log_in_does_not_clear_the_address_of_a_guesser(site: Site) -> None:
    """Who has an account of their own gains no free guesses by it."""
    site.add("jane", "viewer")
    assert [guess(site, f"name-{n}", 1)[0] for n in range(20)] == [401] * 20
    assert log_in(site.stranger(client=("192.0.2.1", 1)), "jane").status_code == 303
    assert [guess(site, f"other-{n}", 1)[0] for n in range(6)] == [401] * 5 + [429]


def test_the_right_present_password_forgets_the_wrong_ones_before_it(site: Site) -> None:
    client = site.person("viewer")
    wrong = {"old": "wrong", "new": PASSWORD + "!", "again": PASSWORD + "!"}
    too_short = {"old": PASSWORD, "new": "short", "again": "short"}
    for _ in range(3):
        assert [client.post("/password", data=wrong).status_code for _ in range(4)] == [401] * 4
        assert "at least 12 characters" in client.post("/password", data=too_short).text


def test_typos_of_an_office_never_lock_its_address(site: Site) -> None:
    """Thirty days of two typos a day from one address; each person then gets it right."""
    site.add("jane", "viewer")
    statuses = set()
    for _ in range(30 * 2):
        statuses |= set(guess(site, "jane", 1))
        assert log_in(site.stranger(client=("192.0.2.1", 1)), "jane").status_code == 303
        site.clock.advance(12 * 60 * MINUTE)
    assert statuses == {401}


def test_a_guesser_behind_an_address_is_let_in_four_times_an_hour(site: Site) -> None:
    """Forgiving an address gives no more guesses than its lock does."""
    tried = [guess(site, f"name-{n}", 1)[0] for n in range(40)]
    assert tried.count(401) == FREE["address"]
    let_in = 0
    for number in range(3 * 60):
        site.clock.advance(MINUTE)
        let_in += guess(site, f"other-{number}", 1) == [401]
    assert let_in <= 3 * 4 + 8  # the first waits are shorter


def test_what_the_lock_of_an_account_refuses_is_not_counted_against_the_address(
    site: Site,
) -> None:
    site.add("omar", "viewer")
    assert guess(site, "jane", 100) == [401] * 5 + [429] * 95
    assert log_in(site.stranger(client=("192.0.2.1", 1)), "omar").status_code == 303
    assert [guess(site, f"name-{n}", 1)[0] for n in range(21)] == [401] * 20 + [429]


def test_a_known_device_is_not_locked_by_guesses_elsewhere(site: Site) -> None:
    site.add("jane", "viewer")
    home = site.stranger()
    cookie = log_in(home, "jane").headers.get_list("set-cookie")[1]
    assert cookie.startswith("device=")
    assert "HttpOnly" in cookie
    assert "Max-Age=7776000" in cookie
    assert guess(site, "jane", 6, client="203.0.113.1") == [401] * 5 + [429]
    assert log_in(site.stranger(), "jane").status_code == 429, "a browser without the cookie"
    assert log_in(home, "jane").status_code == 303
    assert log_in(site.stranger(), "jane").status_code == 429, "the guesser gains nothing by it"


def test_a_known_device_is_one_persons_and_has_a_lock_of_its_own(site: Site) -> None:
    site.add("jane", "viewer")
    site.add("omar", "viewer")
    home = site.stranger()
    log_in(home, "jane")
    assert [log_in(home, "jane", "wrong").status_code for _ in range(6)] == [401] * 5 + [429]
    assert log_in(site.stranger(), "jane").status_code == 303, "the account is not locked"
    assert guess(site, "omar", 6, client="203.0.113.1")[-1] == 429
    assert log_in(home, "omar").status_code == 429, "the device is jane's"


def test_a_device_is_forgotten_after_90_days_and_with_the_password(site: Site) -> None:
    site.add("jane", "viewer")
    home = site.stranger()
    log_in(home, "jane")
    token = home.cookies["device"]

    def known() -> bool:
        with site.database.read() as connection:
            return devices.is_known(connection, token, "jane", now_ms=site.clock.now_ms())

    site.clock.advance(90 * 24 * 60 * MINUTE - 1)
    assert known()
    site.clock.advance(1)
    assert not known()
    log_in(home, "jane")
    token = home.cookies["device"]
    assert known()
    with site.database.begin() as connection:
        people.reset_password(connection, "jane", "-", by="admin", now_ms=0)
    assert not known()


def test_while_a_lock_lasts_nothing_is_written(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    guess(site, "jane", 5)
    begin, written = site.database.begin, 0

    def counted() -> Any:
        nonlocal written
        written += 1
        return begin()

    monkeypatch.setattr(site.database, "begin", counted)
    assert guess(site, "jane", 20) == [429] * 20
    assert written == 0
    assert guess(site, "omar", 1) == [401]
    assert written > 0


def test_guesses_at_the_log_in_keep_nobody_from_changing_their_password(site: Site) -> None:
    client = site.person("viewer")
    assert guess(site, "viewer", 6)[-1] == 429
    new = "another walk by the sea"
    answer = client.post("/password", data={"old": PASSWORD, "new": new, "again": new})
    assert answer.status_code == 303
    assert guess(site, "viewer", 1) == [429], "which does not unlock the log-in for the guesser"


def test_an_admin_unlocks_the_change_of_a_password_too(site: Site) -> None:
    admin, client = site.person("admin"), site.person("viewer")
    wrong = {"old": "wrong", "new": PASSWORD + "!", "again": PASSWORD + "!"}
    assert [client.post("/password", data=wrong).status_code for _ in range(6)][-1] == 429
    assert admin.post("/people/viewer/unlock").status_code == 303
    assert client.post("/password", data=wrong).status_code == 401
