"""`python -m gateway keys`: what it does stands in the audit, and no secret with it."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path

import pytest
from typer.testing import CliRunner

from database.accounts import audit
from database.accounts.api_keys import all_keys, hashed
from database.core.opening import open_database
from gateway.__main__ import app
from runtime.command_line import operator
from runtime.settings import load_settings
from schemas.errors import ConfigurationError

ACCOUNT = f"command line: {pwd.getpwuid(os.getuid()).pw_name}"


def test_making_and_revoking_a_key_is_audited_without_its_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"sqlite:///{tmp_path / 'fraud.db'}"
    monkeypatch.setenv("FRAUD_DATABASE_URL", address)
    for name in ("USER", "LOGNAME"):
        monkeypatch.setenv(name, "somebody-else")

    def run(*words: str) -> str:
        result = CliRunner().invoke(app, ["keys", *words], catch_exceptions=False)
        assert result.exit_code == 0
        return result.stdout

    key = run(
        "create", "checkout", "--scopes", "score", "--expires", "90d", "--tenant", "shop-a"
    ).splitlines()[-1]
    key_id = key.split("_")[1]
    run("revoke", key_id)
    run("revoke", key_id)  # changes nothing, so nothing is told
    with pytest.raises(ConfigurationError, match="there is no key ffff"):
        run("revoke", "ffff")
    opened = open_database(load_settings(database_url=address))
    with opened as database, database.read() as connection:
        revoked, created = audit.entries(connection)
    assert (created.who, created.action, created.subject) == (ACCOUNT, "key created", key_id)
    assert created.before is None
    after = json.loads(created.after or "")
    assert after == {
        "name": "checkout",
        "tenant": "shop-a",
        "scopes": ["score"],
        "expires_at": after["expires_at"],
    }
    assert after["expires_at"] == pytest.approx(created.at + 90 * 86_400_000, abs=60_000)
    assert (revoked.who, revoked.action, revoked.subject) == (ACCOUNT, "key revoked", key_id)
    assert json.loads(revoked.before or "") == {"name": "checkout", "revoked_at": None}
    assert json.loads(revoked.after or "") == {"name": "checkout", "revoked_at": revoked.at}
    told = f"{created}{revoked}"
    assert key.split("_", 2)[2] not in told
    assert hashed(key.encode()).hex() not in told


def test_an_account_without_a_name_is_told_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_001)
    assert operator() == "command line: uid 4000000001"


def test_a_key_lasts_a_year_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAUD_DATABASE_URL", f"sqlite:///{tmp_path / 'fraud.db'}")
    invoke = CliRunner().invoke
    for name, options in (("year", []), ("ever", ["--expires", "never", "--tenant", "shop-a"])):
        made = invoke(app, ["keys", "create", name, *options], catch_exceptions=False)
        assert made.exit_code == 0
    listed = invoke(app, ["keys", "list"], catch_exceptions=False).stdout.splitlines()
    words = {line.split()[1]: line for line in listed}
    assert "  shop-a  read,score  " in words["ever"]
    assert "expires never" in words["ever"]
    assert "  default  read,score  " in words["year"]
    assert "expires never" not in words["year"]
    opened = open_database(load_settings())
    with opened as database, database.read() as connection:
        year = next(key for key in all_keys(connection) if key.name == "year")
    assert year.expires_at == year.created_at + 365 * 86_400_000
    for options, told in (
        (["--expires", "soon"], "or write never"),
        (["--tenant", "Shop A"], "tenant 'Shop A'"),
    ):
        with pytest.raises(ConfigurationError, match=told):
            invoke(app, ["keys", "create", "x", *options], catch_exceptions=False)
