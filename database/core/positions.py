"""Stored positions of topics, moved in the same transaction as the rows that they cover."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, select, update

from database.core.inserts import insert_once
from database.core.tables import positions
from schemas.errors import Fenced


def read_positions(connection: Connection, topic: str) -> dict[int, int]:
    """Return the next offset to read by partition; partitions not yet stored are missing."""
    found = connection.execute(
        select(positions.c.partition, positions.c.following).where(positions.c.topic == topic)
    )
    return {number: following for number, following in found}


def move_positions(
    connection: Connection, topic: str, moves: Mapping[int, tuple[int | None, int]]
) -> None:
    """Move partitions from an old offset (None: not yet stored) to the next offset to read.

    Raises:
        Fenced: a partition is not at its old offset, so another process has stored these records;
            the caller must roll back.
    """
    for number, (before, after) in moves.items():
        if before is None:
            row = {"topic": topic, "partition": number, "following": after}
            moved = insert_once(connection, positions, [row]).new
        else:
            moved = connection.execute(
                update(positions)
                .where(
                    positions.c.topic == topic,
                    positions.c.partition == number,
                    positions.c.following == before,
                )
                .values(following=after)
            ).rowcount
        if moved != 1:
            raise Fenced(f"{topic}[{number}] is no longer at {before}: another process stores it")
