"""Rows of a table that cannot be used, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from schemas.card_numbers import masked


class RowFault(NamedTuple):
    """A row (counted from 0 in the table as it came), the columns at fault, and what is wrong.

    `kind` is the same for equal faults, so that they can be counted.
    """

    row: int
    column: str
    value: str
    reason: str
    kind: str


def fault(row: int, column: str, value: object, kind: str, remedy: str = "") -> RowFault:
    """Return the fault of a row; card numbers in the value are masked."""
    shown = masked("" if value is None else str(value))
    reason = f"{kind}: {remedy}" if remedy else kind
    return RowFault(row, column, shown if len(shown) <= 80 else f"{shown[:60]}…", reason, kind)


def counted(faults: Iterable[RowFault]) -> dict[str, int]:
    """Return how many rows have each kind of fault, most frequent first."""
    return dict(Counter(each.kind for each in faults).most_common())
