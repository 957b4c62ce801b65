"""How far a topic was stored: read and moved in the transaction of the rows. The store calls it."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, select, update

from database.core.inserts import insert_once
from database.core.tables import positions
from schemas.errors import Fenced


def read_positions(connection: Connection, topic: str) -> dict[int, int]:
    """Return the next offset to read by partition; without one, nothing was stored of it."""
    found = connection.execute(
        select(positions.c.partition, positions.c.following).where(positions.c.topic == topic)
    )
    return {number: following for number, following in found}


def move_positions(
    connection: Connection, topic: str, moves: Mapping[int, tuple[int | None, int]]
) -> None:
    """Move partitions from where they were read to the next offset; None: had no position.

    Raises:
        Fenced: one is not there any more, so another process has stored this; roll back.
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
            raise Fenced(f"{topic}[{number}] is no more at {before}: another process stores it")
