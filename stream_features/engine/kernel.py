"""The kernel: for each transaction of a batch its vector, then the transaction into the state.

Called by the offline engine (all state in memory) and the live one (state of one batch). Entities do
not depend on each other, so a batch is taken in passes: cards first, which say what is a duplicate or
late, then merchants, devices and addresses, each with the rows of one entity together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.columns import TransactionColumns
from schemas.features import VECTOR_SIZE
from stream_features.engine.card_rows import card_rows
from stream_features.engine.grouping import group_rows
from stream_features.engine.plan import Plan
from stream_features.engine.shared_rows import shared_rows
from stream_features.engine.table import Table, Tables, grown
from stream_features.engine.transaction_rows import transaction_rows
from stream_features.engine.workspace import (
    TO_DEVICE,
    TO_IP,
    TO_MERCHANT,
    Rows,
    Workspace,
    new_rows,
)

Ints = npt.NDArray[np.int64]


class Slots(NamedTuple):
    """Slot of each row's entities, int64[n]; -1 if the row names none."""

    card: Ints
    merchant: Ints
    device: Ints
    ip: Ints


def _to_the_end(
    table: Table, slots: Ints, order: Ints, some_rows: Callable[[Table, int], int]
) -> Table:
    """Call `some_rows` until all are done, with a larger table each time that it ran out of room."""
    group_rows(slots, table.rows, np.empty(len(slots), np.int64), order)
    done = some_rows(table, 0)
    while done < len(order):
        table = grown(table)
        done = some_rows(table, done)
    return table


def compute(
    tables: Tables, slots: Slots, plan: Plan, columns: TransactionColumns, work: Workspace
) -> tuple[Tables, Rows]:
    """Process n transactions in their order; return the tables, grown if need be, and the rows."""
    rows = new_rows(columns.rows, VECTOR_SIZE)
    order = np.empty(columns.rows, np.int64)
    transaction_rows(plan.transaction, columns, work.scratch, rows.vectors)

    def cards(table: Table, first: int) -> int:
        done: int = card_rows(table, slots.card, order, first, plan.card, columns, work, rows)
        return done

    card = _to_the_end(tables.card, slots.card, order, cards)
    amounts, holders = columns.amount, columns.card.view(np.int64)
    shared: Any = (("merchant", TO_MERCHANT, amounts), ("device", TO_DEVICE, holders), ("ip", TO_IP, holders))  # fmt: skip
    grown_tables = [card]
    for kind, bit, values in shared:
        own, own_plan = getattr(slots, kind), getattr(plan, kind)

        def pass_over(
            table: Table, first: int, own: Ints = own, own_plan: Any = own_plan,
            bit: int = bit, values: Ints = values,
        ) -> int:  # fmt: skip
            done: int = shared_rows(
                table, own, order, first, own_plan, bit, columns, values, work, rows
            )
            return done

        grown_tables.append(_to_the_end(getattr(tables, kind), own, order, pass_over))
    return Tables(*grown_tables), rows
