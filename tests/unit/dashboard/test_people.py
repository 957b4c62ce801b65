"""The page /people and the commands `python -m dashboard people`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dashboard.__main__ import app
from database.accounts import audit, people
from database.accounts.passwords import Passwords
from database.core.opening import open_database
from runtime.settings import load_settings
from schemas.errors import ConfigurationError
from tests.support.dashboard.site import PASSWORD, Site, log_in


def state_of(text: str, username: str) -> tuple[str, str]:
    """Return state and role that the page shows of a person."""
    row = next(row for row in text.split("<tr>") if f'"break">{username}</strong>' in row)
    state = re.search(r'class="badge[^"]*">([^<]+)<', row)
    role = re.search(r"<option selected>([^<]+)<", row)
    assert state is not None
    assert role is not None
    return state[1], role[1]


def test_an_admin_adds_a_person_whose_one_time_password_is_shown_once(site: Site) -> None:
    admin = site.person("admin")
    added = admin.post("/people", data={"username": " Jane ", "role": "analyst"}).text
    secret = re.search(r'class="secret">([^<]+)<', added)
    assert secret is not None
    assert len(secret[1]) == 16
    assert secret[1] not in admin.get("/people").text
    assert state_of(added, "jane") == ("one-time password", "analyst")
    answer = log_in(site.stranger(), "jane", secret[1])
    assert answer.status_code == 303
    with site.database.read() as connection:
        entry = audit.entries(connection, subject="jane", action="person added")[0]
    assert (entry.who, entry.after) == ("admin", '{"role": "analyst"}')


def test_an_admin_changes_role_password_and_access(site: Site) -> None:
    admin = site.person("admin")
    jane = site.person("viewer", "jane")
    changed = admin.post("/people/jane/role", data={"role": "model owner"})
    assert changed.headers["location"] == "/people?changed=jane"
    assert "Changed: jane" in admin.get("/people?changed=jane").text
    assert jane.get("/models").status_code == 303  # the session has ended
    assert state_of(admin.get("/people").text, "jane") == ("active", "model owner")
    admin.post("/people/jane/disable")
    assert state_of(admin.get("/people").text, "jane")[0] == "disabled"
    assert log_in(site.stranger(), "jane").status_code == 401
    admin.post("/people/jane/enable")
    assert log_in(site.stranger(), "jane").status_code == 303
    reset = admin.post("/people/jane/password").text
    secret = re.search(r'class="secret">([^<]+)<', reset)
    assert secret is not None
    assert log_in(site.stranger(), "jane").status_code == 401
    assert log_in(site.stranger(), "jane", secret[1]).status_code == 303
    with site.database.read() as connection:
        found = [
            (entry.action, entry.before, entry.after)
            for entry in audit.entries(connection, who="admin", subject="jane")
        ]
    assert found == [
        ("password reset", None, None),
        ("person enabled", '{"disabled": true}', '{"disabled": false}'),
        ("person disabled", '{"disabled": false}', '{"disabled": true}'),
        ("role changed", '{"role": "viewer"}', '{"role": "model owner"}'),
    ]


@pytest.mark.parametrize(
    ("path", "form", "said"),
    [
        ("/people", {"username": "admin", "role": "viewer"}, "admin already exists"),
        ("/people", {"username": "jane", "role": "king"}, "is not a role"),
        ("/people", {"username": "", "role": "viewer"}, "is not a username"),
        ("/people", {"username": "<b>jane</b>", "role": "viewer"}, "is not a username"),
        ("/people", {"username": "x" * 65, "role": "viewer"}, "is not a username"),
        ("/people/nobody/role", {"role": "viewer"}, "there is nobody named"),
        ("/people/nobody/unlock", {}, "there is nobody named"),
        ("/people/nobody/password", {}, "there is nobody named"),
        ("/people/admin/role", {"role": "viewer"}, "admin is the last admin"),
        ("/people/admin/disable", {}, "admin is the last admin"),
    ],
)
def test_what_cannot_be_changed_says_why(
    site: Site, path: str, form: dict[str, str], said: str
) -> None:
    admin = site.person("admin")
    with site.database.read() as connection:
        before = people.accounts(connection), len(audit.entries(connection))
    answer = admin.post(path, data=form)
    assert answer.status_code == 409
    assert said in answer.text
    assert "<b>jane" not in answer.text
    assert 'class="secret"' not in answer.text
    with site.database.read() as connection:
        assert (people.accounts(connection), len(audit.entries(connection))) == before


def test_one_of_two_admins_may_go(site: Site) -> None:
    admin = site.person("admin")
    site.add("second", "admin")
    assert admin.post("/people/admin/role", data={"role": "viewer"}).status_code == 303
    with site.database.read() as connection:
        roles = {each.username: each.role for each in people.accounts(connection)}
    assert roles == {"admin": "viewer", "second": "admin"}


def test_the_command_line_does_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"sqlite:///{tmp_path / 'fraud.db'}"
    monkeypatch.setenv("FRAUD_DATABASE_URL", address)

    def run(*words: str) -> str:
        """Return the last line of what a command wrote."""
        result = CliRunner().invoke(app, ["people", *words], catch_exceptions=False)
        assert result.exit_code == 0
        return (result.stdout.splitlines() or [""])[-1]

    made = json.loads(run("add", "jane", "--role", "admin", "--json", "-"))
    assert made["username"] == "jane"
    run("add", "omar")
    run("role", "omar", "model owner")
    run("disable", "omar")
    listed = json.loads(run("list", "--json", "-"))
    assert [(each["username"], each["role"], each["state"]) for each in listed] == [
        ("jane", "admin", "one-time password"),
        ("omar", "model owner", "disabled"),
    ]
    run("enable", "omar")
    reset = json.loads(run("password", "jane", "--json", "-"))
    with open_database(load_settings(database_url=address)) as database:
        site = Site(database, passwords=Passwords())
        assert log_in(site.stranger(), "jane", made["one_time_password"]).status_code == 401
        assert log_in(site.stranger(), "jane", reset["one_time_password"]).status_code == 303
        for _ in range(6):
            answer = log_in(site.stranger(), "omar", "wrong")
        assert answer.status_code == 429
        site.clock.advance(10 * 365 * 86_400_000)
        run("unlock", "omar")
        with database.read() as connection:
            found = [entry for entry in audit.entries(connection) if ":" in entry.who]
    assert {entry.who.split(":")[0] for entry in found} == {"command line"}
    assert [entry.action for entry in found] == [
        "person unlocked", "password reset", "person enabled", "person disabled", "role changed",
        "person added", "person added",
    ]  # fmt: skip
    stored = b"".join(file.read_bytes() for file in tmp_path.glob("fraud.db*"))
    assert b"one_time_password" not in stored
    assert b"$argon2id$" in stored
    for secret in (made, reset):
        assert secret["one_time_password"].encode() not in stored


def test_the_command_line_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAUD_DATABASE_URL", f"sqlite:///{tmp_path / 'fraud.db'}")
    for words, said in (
        (["add", "Jane Doe"], "is not a username"),
        (["add", "jane", "--role", "king"], "is not a role: use one of viewer"),
        (["disable", "jane"], "there is nobody named 'jane'"),
    ):
        result = CliRunner().invoke(app, ["people", *words])
        assert isinstance(result.exception, ConfigurationError)
        assert said in str(result.exception)


def test_every_command_shows_an_example() -> None:
    for command in ("add", "list", "role", "password", "disable", "enable", "unlock"):
        text = CliRunner().invoke(app, ["people", command, "--help"]).output
        assert "Example: python -m dashboard people" in " ".join(text.split()), command


def test_a_password_that_was_lost_is_replaced_and_the_account_unlocked(site: Site) -> None:
    admin = site.person("admin")
    site.add("jane", "viewer")
    for _ in range(6):
        log_in(site.stranger(), "jane", "wrong")
    assert log_in(site.stranger(), "jane", PASSWORD).status_code == 429
    reset = admin.post("/people/jane/password").text
    secret = re.search(r'class="secret">([^<]+)<', reset)
    assert secret is not None
    assert log_in(site.stranger(), "jane", secret[1]).status_code == 303
