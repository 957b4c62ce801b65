"""Applies labels: attributes a fraud to the merchant, device and IP address of its transaction.

The transaction is looked up in the state of its card. A fraud label that arrives before its
transaction waits there as a mark until a transaction of that time would be too late to count. The
latest label wins: GENUINE takes back an earlier FRAUD. The label of a refund or reversal changes
nothing, as those are not part of any state.
"""

from __future__ import annotations

import numpy as np

from schemas.compiled import compiled
from stream_features.engine.passes.card_rows import find_transaction
from stream_features.engine.passes.workspace import CHANGED, RETENTION, TRANSACTION_BITS
from stream_features.engine.state.entities import (
    CAPACITY,
    DEVICE,
    FLAGS,
    FRAUD,
    IP,
    MARKED,
    MARKS,
    MERCHANT,
    NEWEST,
    START,
    TIME,
    TOUCHED,
    add_mark,
    drop_marks,
    has_room,
    prune,
    remove_mark,
)
from stream_features.engine.state.given_back import forget_given_back, is_given_back

NOTHING, PENDING, ADDED, REMOVED, REFUSED = range(5)
"""The outcomes of a label; REFUSED means that the card holds too many pending labels."""


@compiled
def resolve_labels(table, slots, transactions, times, fraud, label_delay, outcome, found, first):  # type: ignore[no-untyped-def]
    """Apply labels first..n-1 to the cards; return the row that ran out of room, or n.

    Args:
        table, slots: the cards, and the slot of each label's card.
        transactions (uint64[n]), times (int64[n], ms), fraud (bool[n]): the labels.
        outcome: uint8[n], filled. found: int64[n, 4], filled for ADDED and REMOVED with the
            merchant, device and IP hashes and the time of the transaction.
    """
    keep = RETENTION + label_delay
    for row in range(first, len(slots)):
        if not has_room(table):
            return row
        slot = slots[row]
        outcome[row] = NOTHING
        transaction = np.int64(transactions[row]) & TRANSACTION_BITS
        prune(table, slot, table.slots[slot, NEWEST] - keep)
        index = find_transaction(table, slot, transaction)
        if index >= 0:
            capacity = table.slots[slot, CAPACITY]
            at = table.slots[slot, START] + index
            if fraud[row] != (table.pool[at + FLAGS * capacity] & FRAUD != 0):
                table.pool[at + FLAGS * capacity] ^= FRAUD
                table.slots[slot, TOUCHED] |= CHANGED
                outcome[row] = ADDED if fraud[row] else REMOVED
                found[row, 0] = table.pool[at + MERCHANT * capacity]
                found[row, 1] = table.pool[at + DEVICE * capacity]
                found[row, 2] = table.pool[at + IP * capacity]
                found[row, 3] = table.pool[at + TIME * capacity]
        elif not fraud[row]:
            if remove_mark(table, slot, transaction):
                table.slots[slot, TOUCHED] |= CHANGED
        elif is_given_back(table, slot, transaction, table.slots[slot, NEWEST] - keep):
            continue
        elif times[row] > table.slots[slot, NEWEST] - keep:
            drop_marks(table, slot, table.slots[slot, NEWEST] - keep)
            if table.slots[slot, MARKED] == MARKS:
                forget_given_back(table, slot)
            if add_mark(table, slot, times[row], transaction):
                table.slots[slot, TOUCHED] |= CHANGED
                outcome[row] = PENDING
            else:
                outcome[row] = REFUSED
    return len(slots)
