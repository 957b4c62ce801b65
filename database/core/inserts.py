"""Bulk inserts that skip existing rows and are not stopped by a row that cannot be stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError

Row = dict[str, Any]
_NUL, _INSTEAD = "\0", "\N{REPLACEMENT CHARACTER}"


def storable(text: str) -> str:
    """Replace NUL characters, which PostgreSQL cannot store.

    >>> storable("card-7")
    'card-7'
    """
    return text.replace(_NUL, _INSTEAD) if _NUL in text else text


class Inserted(NamedTuple):
    """The number of new rows, and the rows that the database refused, with its reasons."""

    new: int
    refused: list[tuple[Row, str]]


def insert_once(connection: Connection, table: Table, rows: Sequence[Row]) -> Inserted:
    """Insert the rows whose primary key is new; existing rows stay as they are.

    A row is refused if the column types cannot hold it, such as a text that is too long for
    PostgreSQL. Pass texts from outside through `storable` first.
    """
    if not rows:
        return Inserted(0, [])
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
    try:
        with connection.begin_nested():
            return Inserted(connection.execute(statement, list(rows)).rowcount, [])
    except (DataError, IntegrityError) as error:
        if len(rows) == 1:
            return Inserted(0, [(rows[0], str(error.orig).strip().split("\n")[0])])
    middle = len(rows) // 2
    first = insert_once(connection, table, rows[:middle])
    second = insert_once(connection, table, rows[middle:])
    return Inserted(first.new + second.new, first.refused + second.refused)
