"""The kernel: computes the vector of each transaction in a batch and adds it to the state.

Entities do not depend on each other, so a batch is processed in passes. Cards come first and
determine which transactions are duplicates or late; merchants, devices and IP addresses follow.
Within a pass, all rows of one entity are processed together.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.columns import TransactionColumns
from schemas.features import VECTOR_SIZE
from stream_features.engine.passes.card_rows import CARD_INPUTS, card_rows, gather_card_rows
from stream_features.engine.passes.grouping import group_rows
from stream_features.engine.passes.shared_rows import SHARED_INPUTS, gather_shared_rows, shared_rows
from stream_features.engine.passes.transaction_rows import transaction_rows
from stream_features.engine.passes.workspace import (
    TO_DEVICE,
    TO_IP,
    TO_MERCHANT,
    Rows,
    Workspace,
    new_rows,
)
from stream_features.engine.plan import EntityPlan, FeaturePlan
from stream_features.engine.state.entities import Table, Tables, grown

Ints = npt.NDArray[np.int64]


class Slots(NamedTuple):
    """The slots (int64[n]) of each row's entities; -1 if the row does not name one."""

    card: Ints
    merchant: Ints
    device: Ints
    ip: Ints


def _grouped(table: Table, slots: Ints) -> Ints:
    """Return the row numbers (int64[n]) grouped by entity, in order within each."""
    order = np.empty(len(slots), np.int64)
    group_rows(slots, table.rows, np.empty(len(slots), np.int64), order)
    return order


def _cards(
    table: Table,
    slots: Ints,
    plan: FeaturePlan,
    columns: TransactionColumns,
    work: Workspace,
    rows: Rows,
) -> Table:
    inputs = np.empty((len(slots), CARD_INPUTS), np.int64)
    gather_card_rows(slots, _grouped(table, slots), columns, columns.spent, inputs)
    done = card_rows(table, inputs, 0, plan.card, work, rows)
    while done < len(slots):
        table = grown(table)
        done = card_rows(table, inputs, done, plan.card, work, rows)
    return table


def _shared(
    table: Table,
    slots: Ints,
    values: Ints,
    plan: EntityPlan,
    bit: int,
    columns: TransactionColumns,
    work: Workspace,
    rows: Rows,
) -> Table:
    inputs = np.empty((len(slots), SHARED_INPUTS), np.int64)
    gather_shared_rows(slots, _grouped(table, slots), columns, values, inputs)
    done = shared_rows(table, inputs, 0, plan, bit, work, rows)
    while done < len(slots):
        table = grown(table)
        done = shared_rows(table, inputs, done, plan, bit, work, rows)
    return table


def compute(
    tables: Tables, slots: Slots, plan: FeaturePlan, columns: TransactionColumns, work: Workspace
) -> tuple[Tables, Rows]:
    """Process n transactions in their order; return the tables, grown if needed, and results."""
    rows = new_rows(columns.rows, VECTOR_SIZE)
    amounts, cards = columns.spent, columns.card.view(np.int64)
    common: Any = (columns, work, rows)
    transaction_rows(plan.transaction, columns, work.scratch, rows.vectors)
    card = _cards(tables.card, slots.card, plan, *common)
    merchant = _shared(
        tables.merchant, slots.merchant, amounts, plan.merchant, TO_MERCHANT, *common
    )
    device = _shared(tables.device, slots.device, cards, plan.device, TO_DEVICE, *common)
    ip = _shared(tables.ip, slots.ip, cards, plan.ip, TO_IP, *common)
    return Tables(card, merchant, device, ip), rows
