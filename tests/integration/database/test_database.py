"""The database on SQLite and PostgreSQL: tables, locks, errors and the append-only audit."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Executable, delete, func, insert, inspect, select, text, update
from sqlalchemy.exc import DBAPIError

from database.accounts.api_keys import all_keys, create
from database.accounts.audit import delete_older
from database.accounts.people import ONE_TIME_MS, accounts
from database.core.database import Database
from database.core.engines import make_engine, parse_url
from database.core.exclusive import ExclusiveLock
from database.core.migrate import SCRIPTS
from database.core.opening import open_database
from database.core.tables import audit, metadata, people, policies
from devstack.servers.postgres import PostgresServer
from runtime.settings import load_settings
from schemas.errors import ConfigurationError, DatabaseUnavailable

NOW = time.time_ns() // 1_000_000
ENTRY = {"at": NOW, "who": "jane", "action": "promote", "subject": "model-1"}
SECRET = "pass-word-of-ours"


@pytest.fixture
def empty_url(database_url: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a database without tables."""
    if database_url.startswith("sqlite"):
        yield database_url
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = f"e{uuid.uuid4().hex[:12]}"
    yield server.create(name)
    server.drop(name)


def test_migrations_make_the_tables_that_the_code_knows(database: Database) -> None:
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_those_that_start_at_once_make_the_tables_once(empty_url: str) -> None:
    settings = load_settings(database_url=empty_url)
    together = Barrier(4)

    def start(_: int) -> None:
        together.wait()
        open_database(settings).close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(start, range(4)))
    with open_database(settings) as database:
        assert set(inspect(database.engine).get_table_names()) == {
            *metadata.tables, "alembic_version",
        }  # fmt: skip


def test_one_time_passwords_of_before_get_an_end(empty_url: str) -> None:
    settings = load_settings(database_url=empty_url)
    with Database(make_engine(parse_url(empty_url))) as before, before.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(SCRIPTS))
        command.upgrade(config, "0001")
        for name, one_time in (("jane", True), ("omar", False)):
            connection.execute(
                text("INSERT INTO people VALUES (:name, 'viewer', '-', :one_time, :no, 1)"),
                {"name": name, "one_time": one_time, "no": False},
            )
    with open_database(settings) as database, database.read() as connection:
        until = {each.username: each.one_time_until for each in accounts(connection)}
    assert until["omar"] is None
    assert until["jane"] == pytest.approx(time.time() * 1000 + ONE_TIME_MS, abs=600_000)


def test_tables_of_before_are_protected_and_expire_as_new_ones(empty_url: str) -> None:
    """A policy of before counts as used now: nobody knows when it was used last."""
    settings = load_settings(database_url=empty_url)
    year = 365 * 86_400_000
    with Database(make_engine(parse_url(empty_url))) as before, before.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(SCRIPTS))
        command.upgrade(config, "0003")
        connection.execute(text("INSERT INTO policies VALUES ('v1', 1, '{}', 'jane')"))
        for at in (NOW - year, NOW):
            connection.execute(insert(audit), {**ENTRY, "at": at})
    with open_database(settings) as database:
        with database.begin() as connection:
            used = connection.scalar(select(policies.c.used_at))
            assert delete_older(connection, NOW - year + 1, 10) == 1
        with pytest.raises(DBAPIError, match="append-only"), database.begin() as connection:
            connection.execute(delete(audit))
    assert used == pytest.approx(time.time() * 1000, abs=600_000)


def test_keys_of_before_share_a_tenant(empty_url: str) -> None:
    settings = load_settings(database_url=empty_url)
    with Database(make_engine(parse_url(empty_url))) as before, before.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(SCRIPTS))
        command.upgrade(config, "0004")
        columns = "(key_id, key_hash, name, scopes, created_at)"
        row = {"hash": bytes(32)}
        connection.execute(
            text(f"INSERT INTO api_keys {columns} VALUES ('k1', :hash, 'shop', 'read', 1)"), row
        )
    with open_database(settings) as database, database.begin() as connection:
        made, _ = create(connection, "new", ["read"], by="test", now_ms=2, tenant="shop-a")
        tenants = {key.key_id: key.tenant for key in all_keys(connection)}
    assert tenants == {"k1": "default", made.key_id: "shop-a"}


def test_the_age_of_open_cases_comes_from_an_index(database: Database) -> None:
    explain = "EXPLAIN" if database.file is None else "EXPLAIN QUERY PLAN"
    asked = "SELECT opened_at FROM cases WHERE verdict IS NULL ORDER BY opened_at LIMIT 1 OFFSET 9"
    with database.begin() as connection:
        if database.file is None:
            connection.execute(text("SET LOCAL enable_seqscan = off"))
            connection.execute(text("SET LOCAL enable_sort = off"))
        plan = " ".join(str(row) for row in connection.execute(text(f"{explain} {asked}")))
    assert "cases_by_age" in plan


def test_a_database_of_a_newer_version_is_refused(database: Database, database_url: str) -> None:
    with database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigurationError, match=r"9999.*newer version"):
        open_database(load_settings(database_url=database_url))


def test_the_audit_takes_entries_and_never_changes_them(database: Database) -> None:
    with database.begin() as connection:
        connection.execute(insert(audit), ENTRY)
    statements: list[Executable] = [update(audit).values(who="mallory"), delete(audit)]
    if database.file is not None:
        statements.append(insert(audit).prefix_with("OR REPLACE").values(**ENTRY, entry_id=1))
    else:
        statements.append(text("TRUNCATE audit"))
    for statement in statements:
        with pytest.raises(DBAPIError, match="append-only"), database.begin() as connection:
            connection.execute(statement)
    with database.read() as connection:
        assert connection.execute(select(audit.c.who)).scalars().all() == ["jane"]


def test_an_audit_entry_can_be_deleted_once_it_is_a_year_old_and_never_changed(
    database: Database,
) -> None:
    year = 365 * 86_400_000
    with database.begin() as connection:
        connection.execute(insert(audit), {**ENTRY, "at": NOW - year, "subject": "old"})
        connection.execute(insert(audit), {**ENTRY, "at": NOW - year + 2 * 86_400_000})
    changes: list[Executable] = [update(audit).values(who="mallory"), delete(audit)]
    if database.file is not None:
        changes.append(insert(audit).prefix_with("OR REPLACE").values(**ENTRY, entry_id=1))
    for change in changes:
        with pytest.raises(DBAPIError, match="append-only"), database.begin() as connection:
            connection.execute(change)
    for _ in range(2):
        with database.begin() as connection:
            delete_older(connection, NOW - year + 1, 10)
            assert connection.scalars(select(audit.c.subject)).all() == ["model-1"]


def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    def fails() -> None:
        with database.begin() as connection:
            connection.execute(insert(audit), ENTRY)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    with database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(audit)) == 0


def test_a_reader_keeps_its_state_and_waits_for_no_writer(database: Database) -> None:
    count = select(func.count()).select_from(audit)
    with database.read() as reader:
        with database.begin() as writer:
            writer.execute(insert(audit), ENTRY)
            assert reader.scalar(count) == 0
        assert reader.scalar(count) == 0
    with database.read() as reader:
        assert reader.scalar(count) == 1


def test_a_lock_is_one_holders_until_it_lets_go(database: Database, database_url: str) -> None:
    with (
        open_database(load_settings(database_url=database_url)) as other,
        ExclusiveLock(database, "test") as ours,
        ExclusiveLock(other, "test") as theirs,
        ExclusiveLock(other, "another") as another,
    ):
        assert ours.acquire()
        assert not theirs.acquire()
        assert another.acquire()
        ours.release()
        assert theirs.acquire()
        assert not ours.acquire()


def test_a_server_that_went_away_is_temporary_and_comes_back(
    postgres: PostgresServer,
) -> None:
    name = f"t{uuid.uuid4().hex[:12]}"
    url = postgres.create(name)
    with open_database(load_settings(database_url=url)) as database:
        postgres.stop()
        try:
            with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1"), database.begin():
                pass
            with pytest.raises(DatabaseUnavailable, match="FRAUD_DATABASE_URL"):
                open_database(load_settings(database_url=url))
        finally:
            postgres.start()
        with database.begin() as connection:
            connection.execute(insert(audit), ENTRY)
    postgres.drop(name)


def test_a_busy_sqlite_is_temporary(tmp_path: Path) -> None:
    settings = load_settings(database_url=f"sqlite:///{tmp_path / 'deep' / 'er' / 'fraud.db'}")
    with open_database(settings) as database, database.begin(), database.read() as reader:
        reader.execute(text("PRAGMA busy_timeout = 0"))
        with pytest.raises(DatabaseUnavailable, match="locked"), database.errors():
            reader.execute(delete(people))


def test_wrong_addresses_say_what_to_do_and_never_the_password(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    missing = postgres.url("nowhere").replace("fraud@", f"fraud:{SECRET}@")
    for url, remedy in {
        f"no address {SECRET}": "write sqlite:///",
        f"mysql://root:{SECRET}@host/db": "kind mysql: write sqlite:///",
        "sqlite://": "write sqlite:///FILE",
        f"sqlite:///{tmp_path}/file/x.db": "choose another file",
        missing: "create the user or the database",
    }.items():
        with pytest.raises(ConfigurationError, match=remedy) as caught:
            open_database(load_settings(database_url=url))
        assert SECRET not in str(caught.value)
