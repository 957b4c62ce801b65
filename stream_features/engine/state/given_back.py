"""The refunds and reversals of a card: only their ids are kept, as marks, so that repeats are known.

They are in no window. A card remembers as many as it has room for beside pending fraud labels.
"""

from __future__ import annotations

from typing import Final

from schemas.compiled import compiled, leaf
from stream_features.engine.state.entities import (
    MARK_START,
    MARK_TIME,
    MARK_TRANSACTION,
    MARKED,
    MARKS,
    add_mark,
    drop_marks,
    find_mark,
    remove_mark,
)

GIVEN_BACK: Final = 1 << 48
"""The bit of a refund or reversal in a card's mark, above the 48 of the transaction's hash."""


@leaf
def is_given_back(table, slot, transaction, horizon):  # type: ignore[no-untyped-def]
    """Return whether the card remembers a refund or reversal of this id, later than `horizon`."""
    index = find_mark(table, slot, transaction | GIVEN_BACK)
    return index >= 0 and table.marks[MARK_TIME, index] > horizon


@compiled
def forget_given_back(table, slot):  # type: ignore[no-untyped-def]
    """Forget the refund or reversal that the card has remembered longest, to make room."""
    start = table.slots[slot, MARK_START]
    for index in range(start, start + table.slots[slot, MARKED]):
        if table.marks[MARK_TRANSACTION, index] & GIVEN_BACK:
            remove_mark(table, slot, table.marks[MARK_TRANSACTION, index])
            return


@compiled
def remember_given_back(table, slot, time, transaction, horizon):  # type: ignore[no-untyped-def]
    """Remember a refund or reversal on its card; marks at or before `horizon` (ms) are dropped.

    A fraud label that came first counts nowhere, so it is dropped, too. Of a card with more marks
    than MARKS, the oldest refunds are forgotten; pending labels never are.
    """
    remove_mark(table, slot, transaction)
    drop_marks(table, slot, horizon)
    if table.slots[slot, MARKED] == MARKS:
        forget_given_back(table, slot)
    add_mark(table, slot, time, transaction | GIVEN_BACK)
