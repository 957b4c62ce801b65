"""Guessing is slowed down, by account and by address, and says nothing of who exists."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from database.accounts import attempts, audit
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
        found = [entry.action for entry in audit.entries(connection, who=name)]
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
    assert failures(site) == {"wrong": 6, "locked": 1, "expired": 0}, "that is no log-in"


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
