"""Each service has a role on PostgreSQL, with the rights that it needs and no others."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from sqlalchemy import delete, insert, select, text
from sqlalchemy.exc import DBAPIError

from database.core.opening import open_database
from database.core.rights import RIGHTS, create_roles, role_of
from database.core.tables import api_keys, audit, decisions, metadata, people
from devstack.servers.postgres import PostgresServer
from runtime.settings import load_settings
from schemas.errors import ConfigurationError
from tests.conftest import MIGRATED
from tests.support.database.roles import as_service

OPERATIONS = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
REFUSED = [
    ("store", select(people)),
    ("store", select(api_keys)),
    ("gateway", delete(decisions)),
    ("gateway", select(people)),
    ("gateway", insert(audit).values(who="nobody")),
    ("dashboard", select(api_keys)),
    ("dashboard", delete(audit)),
    ("dashboard", delete(decisions)),
]


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    name = f"t{uuid.uuid4().hex[:12]}"
    yield postgres.create(name, template=MIGRATED)
    postgres.drop(name)


def test_a_role_has_the_rights_that_are_declared_and_no_others(url: str) -> None:
    as_service(url, "store")
    tables = [*metadata.tables, "alembic_version"]
    with open_database(load_settings(database_url=url)) as owned, owned.read() as connection:
        has = "SELECT has_table_privilege(:role, :table, :operation)"
        found = {
            (service, table, operation)
            for service in RIGHTS
            for table in tables
            for operation in OPERATIONS
            if connection.execute(
                text(has), {"role": role_of(service), "table": table, "operation": operation}
            ).scalar()
        }
    assert found == {
        (service, table, operation)
        for service, rights in RIGHTS.items()
        for table, operations in rights.items()
        for operation in operations
    }
    assert set(tables) == {table for rights in RIGHTS.values() for table in rights}


@pytest.mark.parametrize("service", RIGHTS)
def test_a_service_opens_the_database_that_the_owner_has_migrated(url: str, service: str) -> None:
    with open_database(load_settings(database_url=as_service(url, service))) as opened:
        with opened.read() as connection:
            assert connection.execute(text("SELECT current_user")).scalar() == role_of(service)
        with pytest.raises(DBAPIError, match="denied"), opened.begin() as connection:
            connection.execute(text("CREATE TABLE theirs (number integer)"))


@pytest.mark.parametrize(("service", "statement"), REFUSED)
def test_what_is_not_its_business_is_refused(url: str, service: str, statement: object) -> None:
    with (
        open_database(load_settings(database_url=as_service(url, service))) as opened,
        pytest.raises(DBAPIError, match="permission denied"),
        opened.begin() as connection,
    ):
        connection.execute(statement)  # type: ignore[call-overload]


def test_roles_can_be_made_again_and_need_passwords_and_a_server(
    url: str, tmp_path: object
) -> None:
    as_service(url, "store")
    as_service(url, "store")
    with (
        open_database(load_settings(database_url=url)) as owned,
        pytest.raises(ConfigurationError, match="for gateway, dashboard"),
    ):
        create_roles(owned, {"store": "a password"})
    with (
        open_database(load_settings(database_url=f"sqlite:///{tmp_path}/fraud.db")) as file,
        pytest.raises(ConfigurationError, match="has no roles"),
    ):
        create_roles(file, dict.fromkeys(RIGHTS, "a password"))
