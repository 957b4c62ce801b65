"""The pass over cards: computes each row's card features, then adds the row to the card's state."""

from __future__ import annotations

from typing import Final

import numpy as np

from schemas.compiled import compiled, leaf
from stream_features.engine.passes.workspace import (
    CHANGED,
    DUPLICATE,
    FRAUD_FOUND,
    LATE,
    RETENTION,
    TO_DEVICE,
    TO_IP,
    TO_MERCHANT,
    TRANSACTION_BITS,
    is_counted,
    write_features,
)
from stream_features.engine.state.entities import (
    CAPACITY,
    COUNTRY,
    DEVICE,
    EVENTS,
    FIRST,
    FLAGS,
    FRAUD,
    HOURS_FROM,
    IP,
    MARKED,
    MCC,
    MERCHANT,
    NEWEST,
    POSITION,
    START,
    TIME,
    TOUCHED,
    TRANSACTION,
    VALUE,
    column_of,
    events_until,
    has_room,
    mark_newest,
    open_place,
    prune,
    remove_mark,
    take_out,
)
from stream_features.engine.state.fold import fold
from stream_features.engine.state.given_back import is_given_back, remember_given_back
from stream_features.engine.state.prefetch import (
    BLOCK_AHEAD,
    SLOT_AHEAD,
    ask_for_column,
    ask_for_slot,
)
from stream_features.engine.statistics.card import CardEvent, card_statistics
from stream_features.engine.statistics.hours import count_hour
from stream_features.engine.statistics.scans import last_equal


@leaf
def find_transaction(table, slot, transaction):  # type: ignore[no-untyped-def]
    """Return the index of a transaction among the card's events, or -1."""
    return last_equal(column_of(table, slot, TRANSACTION, table.slots[slot, EVENTS]), transaction)


@compiled
def _set_aside(table, slot, original, saved):  # type: ignore[no-untyped-def]
    """Move the original of a duplicate out of the state into `saved`."""
    for column in range(table.columns):
        saved[column] = column_of(table, slot, column, original + 1)[original]
    take_out(table, slot, original)


@compiled
def _put_back(table, slot, original, saved):  # type: ignore[no-untyped-def]
    """Put the original back in its place, which `_set_aside` has just emptied."""
    open_place(table, slot, original)
    for column in range(table.columns):
        column_of(table, slot, column, original + 1)[original] = saved[column]
    table.slots[slot, HOURS_FROM] = -1


@compiled
def _note_original(rows, row, saved, merchant, device, ip):  # type: ignore[no-untyped-def]
    """Record for the passes over shared entities which event the duplicate repeats."""
    rows.original_time[row] = saved[TIME]
    rows.original_amount[row] = saved[VALUE]
    alike = 0
    if saved[MERCHANT] == merchant:
        alike |= TO_MERCHANT
    if saved[DEVICE] == device:
        alike |= TO_DEVICE
    if saved[IP] == ip:
        alike |= TO_IP
    rows.alike[row] = alike


@leaf
def _add(table, slot, place, own, last, x):  # type: ignore[no-untyped-def]
    """Insert `x` as event `place`; updates the flags of the others only if it is the newest."""
    newest = place == table.slots[slot, EVENTS]
    open_place(table, slot, place)
    capacity = table.slots[slot, CAPACITY]
    at = table.slots[slot, START] + place
    table.pool[at + TIME * capacity] = x.time
    table.pool[at + VALUE * capacity] = x.amount
    table.pool[at + TRANSACTION * capacity] = x.transaction
    table.pool[at + POSITION * capacity] = x.position
    flags = 0
    for c in range(table.distinct):
        table.pool[at + (table.first_distinct + c) * capacity] = own[c]
        if own[c] != 0:
            flags |= 1 << (8 * c)
            if newest and last[c] >= 0:
                table.pool[at - place + last[c] + FLAGS * capacity] ^= 1 << (8 * c)
    table.pool[at + FLAGS * capacity] = flags
    if newest and table.slots[slot, HOURS_FROM] >= 0:
        count_hour(table, slot, x.time, 1)
    table.slots[slot, FIRST] = min(table.slots[slot, FIRST], x.time)
    table.slots[slot, NEWEST] = max(table.slots[slot, NEWEST], x.time)
    table.slots[slot, TOUCHED] |= CHANGED


SLOT, ROW, FIRST_OWN = 5, 6, 7
CARD_INPUTS: Final = FIRST_OWN + 5
"""The inputs of one row: the five fields of a CardEvent, slot, row, and the distinct values."""


@compiled
def gather_card_rows(slots, order, columns, spent, out):  # type: ignore[no-untyped-def]
    """Fill `out` (int64[n, CARD_INPUTS]) with the inputs of each row, in the order of the pass.

    `spent` (int64[n]) are the amounts.

    These loads are independent of each other, so the processor overlaps them; in the pass it
    could not.
    """
    for position in range(len(order)):
        row = order[position]
        country = columns.merchant_country[row]
        if country == 0:
            country = columns.ip_country[row]
        out[position, 0] = columns.time[row]
        out[position, 1] = spent[row]
        out[position, 2] = np.int64(columns.position[row])
        out[position, 3] = np.int64(columns.transaction[row]) & TRANSACTION_BITS
        out[position, 4] = is_counted(columns.kind[row])
        out[position, SLOT] = slots[row]
        out[position, ROW] = row
        out[position, FIRST_OWN + MERCHANT - MERCHANT] = np.int64(columns.merchant[row])
        out[position, FIRST_OWN + MCC - MERCHANT] = np.int64(columns.mcc[row]) + 1
        out[position, FIRST_OWN + DEVICE - MERCHANT] = np.int64(columns.device[row])
        out[position, FIRST_OWN + COUNTRY - MERCHANT] = np.int64(country)
        out[position, FIRST_OWN + IP - MERCHANT] = np.int64(columns.ip[row])


@leaf
def _ask_ahead(table, inputs, position):  # type: ignore[no-untyped-def]
    later = min(position + SLOT_AHEAD, len(inputs) - 1)
    slot = inputs[later, SLOT]
    if slot != inputs[later - 1, SLOT]:
        ask_for_slot(table, slot)
    soon = min(position + BLOCK_AHEAD, len(inputs) - 1)
    slot = inputs[soon, SLOT]
    if slot != inputs[soon - 1, SLOT]:
        for column in (TIME, VALUE, FLAGS, TRANSACTION):
            ask_for_column(table, slot, column)
        for c in range(table.distinct):
            if inputs[soon, FIRST_OWN + c] != 0:
                ask_for_column(table, slot, table.first_distinct + c)


@compiled
def card_rows(table, inputs, first, plan, work, rows):  # type: ignore[no-untyped-def]
    """Process inputs[first:]; return the position at which the table ran out of room, or n.

    A refund or reversal is not added to the state: the card remembers its id, so that a repeat is
    known as a duplicate.

    Args:
        table: the cards. inputs: see `gather_card_rows`.
        rows: receives the flags and the card features; see `workspace.Rows`.
    """
    keep = RETENTION + plan.label_delay
    for position in range(first, len(inputs)):
        if not has_room(table):
            return position
        _ask_ahead(table, inputs, position)
        slot = inputs[position, SLOT]
        row = inputs[position, ROW]
        x = CardEvent(
            inputs[position, 0], inputs[position, 1], inputs[position, 2], inputs[position, 3],
            inputs[position, 4],
        )  # fmt: skip
        own = inputs[position, FIRST_OWN:]
        newest = table.slots[slot, NEWEST]
        prune(table, slot, newest - keep)
        is_late = x.time <= newest - RETENTION
        flag = LATE if is_late else 0
        original = find_transaction(table, slot, x.transaction)
        if original >= 0:
            flag |= DUPLICATE
            _set_aside(table, slot, original, work.saved)
            _note_original(
                rows, row, work.saved, own[0], own[DEVICE - MERCHANT], own[IP - MERCHANT]
            )
        elif table.slots[slot, MARKED] > 0 and is_given_back(
            table, slot, x.transaction, newest - keep
        ):
            flag |= DUPLICATE
            rows.original_time[row] = x.time
            rows.original_amount[row] = x.amount
        count = events_until(table, slot, x.time)
        disturbed = original >= 0 or count < table.slots[slot, EVENTS]
        if disturbed:
            mark_newest(table, slot, count)
        card_statistics(table, slot, count, plan, keep, work, own, x)
        write_features(plan, work.scratch, rows.vectors[row])
        rows.flags[row] = flag
        if original >= 0:
            _put_back(table, slot, original, work.saved)
        elif flag == 0 and x.counted == 0:
            remember_given_back(table, slot, x.time, x.transaction, newest - keep)
            table.slots[slot, TOUCHED] |= CHANGED
        elif flag == 0:
            _add(table, slot, count, own, work.last, x)
            if table.slots[slot, MARKED] > 0 and remove_mark(table, slot, x.transaction):
                column_of(table, slot, FLAGS, count + 1)[count] |= FRAUD
                rows.effects[row] |= FRAUD_FOUND
        if disturbed:
            mark_newest(table, slot, table.slots[slot, EVENTS])
        if table.slots[slot, EVENTS] > table.limit:
            fold(table, slot, keep, plan.label_delay)
    return len(inputs)
