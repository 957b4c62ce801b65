"""The kernel: for each transaction of a batch its vector, then the transaction into the state.

Called by the offline engine (all state in memory) and the live one (state of one batch). Entities
do not depend on each other, so a batch is taken in passes: cards first, which say what is a
duplicate or late, then merchants, devices and addresses, each with the rows of one entity together.
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
    BatchRows,
    Workspace,
    new_rows,
)
from stream_features.engine.plan import EntityPlan, FeaturePlan
from stream_features.engine.state.entities import Table, Tables, grown

Ints = npt.NDArray[np.int64]


class Slots(NamedTuple):
    """Slot of each row's entities, int64[n]; -1 if the row names none."""

    card: Ints
    merchant: Ints
    device: Ints
    ip: Ints


def _grouped(table: Table, slots: Ints) -> Ints:
    """Return the rows (int64[n]), those of an entity together and in their order."""
    order = np.empty(len(slots), np.int64)
    group_rows(slots, table.rows, np.empty(len(slots), np.int64), order)
    return order


def _cards(
    table: Table,
    slots: Ints,
    plan: FeaturePlan,
    columns: TransactionColumns,
    work: Workspace,
    rows: BatchRows,
) -> Table:
    inputs = np.empty((len(slots), CARD_INPUTS), np.int64)
    gather_card_rows(slots, _grouped(table, slots), columns, inputs)
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
    rows: BatchRows,
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
) -> tuple[Tables, BatchRows]:
    """Process n transactions in their order; return the tables, grown if need be, and the rows."""
    rows = new_rows(columns.rows, VECTOR_SIZE)
    amounts, cards = columns.amount, columns.card.view(np.int64)
    common: Any = (columns, work, rows)
    transaction_rows(plan.transaction, columns, work.scratch, rows.vectors)
    card = _cards(tables.card, slots.card, plan, *common)
    merchant = _shared(
        tables.merchant, slots.merchant, amounts, plan.merchant, TO_MERCHANT, *common
    )
    device = _shared(tables.device, slots.device, cards, plan.device, TO_DEVICE, *common)
    ip = _shared(tables.ip, slots.ip, cards, plan.ip, TO_IP, *common)
    return Tables(card, merchant, device, ip), rows
