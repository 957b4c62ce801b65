"""Labels: attribute a fraud to the merchant, device and address of its transaction.

The transaction is found in its card's state; a fraud label that comes before its transaction waits
there as a mark. The last label wins: GENUINE takes back what FRAUD added.
"""

from __future__ import annotations

import numpy as np

from stream_features.engine.compiled import compiled
from stream_features.engine.kernel import (
    CHANGED,
    RETENTION,
    TRANSACTION_BITS,
    find_transaction,
)
from stream_features.engine.table import (
    DEVICE,
    FRAUD,
    IP,
    MERCHANT,
    NEWEST,
    TIME,
    TOUCHED,
    add_mark,
    has_room,
    remove_mark,
)

NOTHING, PENDING, ADDED, REMOVED, REFUSED = range(5)
"""What became of a label; REFUSED: the card holds too many pending labels."""


@compiled
def resolve_labels(table, slots, transactions, times, fraud, label_delay, outcome, found, first):  # type: ignore[no-untyped-def]
    """Apply labels first..n-1 to the cards; return the row that ran out of room, or n.

    Args:
        table, slots: cards, and the slot of each label's card.
        transactions (uint64[n]), times (int64[n], ms), fraud (bool[n]): the labels.
        outcome: uint8[n], filled. found: int64[n, 4], filled where ADDED or REMOVED with the
            merchant, device and ip hashes and the time of the transaction.
    """
    keep = RETENTION + label_delay
    for row in range(first, len(slots)):
        if not has_room(table):
            return row
        slot = slots[row]
        outcome[row] = NOTHING
        transaction = np.int64(transactions[row]) & TRANSACTION_BITS
        index = find_transaction(table, slot, transaction, table.slots[slot, NEWEST] - keep)
        if index >= 0:
            if fraud[row] != (table.pool[FRAUD, index] != 0):
                table.pool[FRAUD, index] = 1 if fraud[row] else 0
                table.slots[slot, TOUCHED] |= CHANGED
                outcome[row] = ADDED if fraud[row] else REMOVED
                found[row, 0] = table.pool[MERCHANT, index]
                found[row, 1] = table.pool[DEVICE, index]
                found[row, 2] = table.pool[IP, index]
                found[row, 3] = table.pool[TIME, index]
        elif not fraud[row]:
            if remove_mark(table, slot, transaction):
                table.slots[slot, TOUCHED] |= CHANGED
        elif times[row] > table.slots[slot, NEWEST] - keep:
            if add_mark(table, slot, times[row], transaction):
                table.slots[slot, TOUCHED] |= CHANGED
                outcome[row] = PENDING
            else:
                outcome[row] = REFUSED
    return len(slots)
