"""Groups rows by entity, so that an entity's state stays in the L1 cache while they are computed.

Entities of a kind do not depend on each other, so only the order within an entity matters.
"""

from __future__ import annotations

from schemas.compiled import compiled


@compiled
def group_rows(slots, counts, touched, order):  # type: ignore[no-untyped-def]
    """Fill `order` with the row numbers grouped by slot, in order within each; slot -1 comes last.

    Args:
        slots: int64[n], -1 if the row does not name an entity.
        counts: int64[slots of the table], all zero before and after.
        touched: int64[n], scratch. order: int64[n], filled.
    """
    groups = 0
    for row in range(len(slots)):
        slot = slots[row]
        if slot >= 0:
            if counts[slot] == 0:
                touched[groups] = slot
                groups += 1
            counts[slot] += 1
    at = 0
    for group in range(groups):
        size = counts[touched[group]]
        counts[touched[group]] = at
        at += size
    for row in range(len(slots)):
        slot = slots[row]
        if slot >= 0:
            order[counts[slot]] = row
            counts[slot] += 1
        else:
            order[at] = row
            at += 1
    for group in range(groups):
        counts[touched[group]] = 0
