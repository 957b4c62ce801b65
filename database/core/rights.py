"""The rights of each service on PostgreSQL: one role a service, and a table has one owner.

The owner of the tables creates and migrates them and is used by nothing that runs all day:
`python -m database setup` acts as the owner, and docs/operating.md says who is who.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from psycopg import sql
from sqlalchemy import Connection

from database.core.database import Database
from schemas.errors import ConfigurationError

READ: Final = ("SELECT",)
ADD: Final = ("SELECT", "INSERT")
CHANGE: Final = ("SELECT", "INSERT", "UPDATE")
EXPIRE: Final = ("SELECT", "INSERT", "DELETE")
FORGET: Final = ("SELECT", "DELETE")
ALL: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")

RIGHTS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = MappingProxyType(
    {
        "store": {
            "alembic_version": READ,
            "decisions": EXPIRE,
            "vectors": EXPIRE,
            "policies": ALL,
            "positions": CHANGE,
            "cases": ALL,
            "audit": EXPIRE,
            "attempts": FORGET,
            "sessions": FORGET,
            "devices": FORGET,
        },
        "gateway": {"alembic_version": READ, "decisions": READ, "vectors": READ, "api_keys": READ},
        "dashboard": {
            "alembic_version": READ,
            "decisions": READ,
            "vectors": READ,
            "policies": READ,
            "cases": CHANGE,
            "people": CHANGE,
            "attempts": ALL,
            "sessions": ALL,
            "devices": ALL,
            "audit": ADD,
        },
    }
)
"""By service, then by table. A service has no right on a table that is not named."""


def role_of(service: str) -> str:
    """Return the name of a service's role."""
    return f"fraud_{service}"


def create_roles(database: Database, passwords: Mapping[str, str]) -> None:
    """Give each service its role, its password and exactly the rights of `RIGHTS`. Blocks.

    Call it as the owner of the tables, who may create roles, after a migration. It can be repeated.

    Args:
        passwords: by service; each of `RIGHTS` must have one.

    Raises:
        ConfigurationError: the database is not PostgreSQL, or a service has no password.
    """
    if database.file is not None:
        raise ConfigurationError(
            "FRAUD_DATABASE_URL names a SQLite file, which has no roles: name PostgreSQL"
        )
    missing = [service for service in RIGHTS if not passwords.get(service)]
    if missing:
        raise ConfigurationError(f"no password is given for {', '.join(missing)}")
    with database.begin() as connection:
        for service, tables in RIGHTS.items():
            _grant(connection, role_of(service), passwords[service], tables)


def _grant(
    connection: Connection, role: str, password: str, tables: Mapping[str, tuple[str, ...]]
) -> None:
    name = sql.Identifier(role)
    session: Any = connection.connection.driver_connection
    known = session.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
    verb = sql.SQL("ALTER" if known else "CREATE")
    statements = [
        sql.SQL("{} ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD {}").format(
            verb, name, sql.Literal(password)
        ),
        sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {}").format(name),
        sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(name),
        sql.SQL("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {}").format(name),
        *(
            sql.SQL("GRANT {} ON {} TO {}").format(
                sql.SQL(", ").join(map(sql.SQL, operations)), sql.Identifier(table), name
            )
            for table, operations in tables.items()
        ),
    ]
    for statement in statements:
        session.execute(statement)
