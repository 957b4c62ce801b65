"""Decoded transactions on their way from the poll to the engine, refused records among them.

Everything is kept in columns, so that no step needs a Python loop over records.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from schemas.columns import TransactionColumns

Ints = npt.NDArray[np.int64]
DeadLetters = dict[tuple[int, int], tuple[bytes | None, bytes]]
"""(key, message) by the source position (partition number, offset)."""


def pick(items: list[Any], rows: Ints) -> list[Any]:
    """Return `items[row]` of each row."""
    return list(map(items.__getitem__, rows.tolist()))


@dataclass(frozen=True, slots=True)
class Arrivals:
    """A table of n rows; those of one partition are in offset order.

    `partition`, `offset` and `received_at` (the broker's timestamp, ms) have shape (n,), as has
    every column of `columns`; `ids`, `cards` and `bodies` (Avro) have length n. A refused row has
    the event time `ordering.NO_TIME` and otherwise empty columns; `dead` holds its dead letter.
    """

    partition: Ints
    offset: Ints
    received_at: Ints
    columns: TransactionColumns
    ids: list[bytes]
    cards: list[bytes]
    bodies: list[bytes]
    dead: DeadLetters

    def __len__(self) -> int:
        """Return n."""
        return len(self.partition)

    @property
    def time(self) -> Ints:
        """Event times (ms), shape (n,)."""
        return self.columns.time

    def take(self, rows: Ints) -> Self:
        """Return the given rows, in the given order."""
        partition, offset = self.partition[rows], self.offset[rows]
        return type(self)(
            partition,
            offset,
            self.received_at[rows],
            self.columns.take(rows),
            pick(self.ids, rows),
            pick(self.cards, rows),
            pick(self.bodies, rows),
            _among(self.dead, partition, offset),
        )

    def cut(self, first: int, last: int) -> Self:
        """Return rows first..last-1; the arrays are views."""
        part = slice(first, last)
        partition, offset = self.partition[part], self.offset[part]
        return type(self)(
            partition,
            offset,
            self.received_at[part],
            self.columns.cut(first, last),
            self.ids[part],
            self.cards[part],
            self.bodies[part],
            _among(self.dead, partition, offset),
        )

    def join(self, other: Self) -> Self:
        """Return these rows followed by those of `other`."""
        return type(self)(
            np.concatenate([self.partition, other.partition]),
            np.concatenate([self.offset, other.offset]),
            np.concatenate([self.received_at, other.received_at]),
            _stacked(self.columns, other.columns),
            self.ids + other.ids,
            self.cards + other.cards,
            self.bodies + other.bodies,
            self.dead | other.dead,
        )


def _stacked(first: TransactionColumns, second: TransactionColumns) -> TransactionColumns:
    pairs: Any = zip(first, second, strict=True)
    return TransactionColumns._make(np.concatenate(pair) for pair in pairs)


def _among(dead: DeadLetters, partition: Ints, offset: Ints) -> DeadLetters:
    if not dead:
        return dead
    positions = zip(partition.tolist(), offset.tolist(), strict=True)
    return {position: dead[position] for position in positions if position in dead}
