"""The kernel: for each transaction in order, compute its vector, then add it to the state.

Called by the offline engine (all state in memory) and the live one (state of one batch).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.features import DAY, HOUR
from stream_features.engine.card import card_statistics
from stream_features.engine.compiled import compiled, leaf
from stream_features.engine.distinct import HashSet, new_set
from stream_features.engine.fold import fold, fold_frauds
from stream_features.engine.plan import Plan
from stream_features.engine.shared import shared_statistics
from stream_features.engine.table import (
    CARD_COLUMNS,
    COUNTRY,
    DEVICE,
    EVENTS,
    FIRST,
    FRAUD,
    IP,
    MCC,
    MERCHANT,
    NEWEST,
    POSITION,
    START,
    TIME,
    TOUCHED,
    TRANSACTION,
    VALUE,
    Table,
    add_mark,
    copy_event,
    end_at,
    has_room,
    make_place,
    remove_mark,
    take_out,
)

DUPLICATE: Final = 1
LATE: Final = 2
FOLDED: Final = 2
FRAUD_FOUND, TO_MERCHANT, TO_DEVICE, TO_IP = 1, 2, 4, 8
CHANGED: Final = 1
RETENTION: Final = 30 * DAY
TRANSACTION_BITS: Final = 2**48 - 1
"""A card tells its transactions apart by 48 bits of their hash."""


class Event(NamedTuple):
    """One transaction as scalars; `mcc` is the code plus one, 0 if missing."""

    time: Any
    amount: Any
    transaction: Any
    card: Any
    merchant: Any
    device: Any
    ip: Any
    position: Any
    mcc: Any
    country: Any


class Tables(NamedTuple):
    """The four kinds of entities."""

    card: Table
    merchant: Table
    device: Table
    ip: Table


class Slots(NamedTuple):
    """Slot of each row's entities, int64[n]; -1 if the row names none."""

    card: npt.NDArray[np.int64]
    merchant: npt.NDArray[np.int64]
    device: npt.NDArray[np.int64]
    ip: npt.NDArray[np.int64]


class Workspace(NamedTuple):
    """Scratch that is reused from row to row."""

    scratch: npt.NDArray[np.float64]
    starts: npt.NDArray[np.int64]
    histogram: npt.NDArray[np.int64]
    saved: npt.NDArray[np.int64]
    card_set: HashSet
    shared_set: HashSet


def new_workspace(plan: Plan) -> Workspace:
    """Return the scratch for `plan`."""
    return Workspace(
        np.zeros(plan.scratch_size),
        np.zeros(64, np.int64),
        np.zeros(24, np.int64),
        np.zeros(CARD_COLUMNS, np.int64),
        new_set(5),
        new_set(1),
    )


@leaf
def _transaction_statistics(scratch, columns, row):  # type: ignore[no-untyped-def]
    time = columns.time[row]
    hour = (time // HOUR) % 24
    weekday = (time // DAY + 3) % 7
    card_country = columns.card_country[row]
    ip_country = columns.ip_country[row]
    merchant_country = columns.merchant_country[row]
    scratch[0] = columns.amount[row] / 100
    scratch[1] = columns.amount[row] % 100 == 0
    scratch[2] = hour
    scratch[3] = weekday
    scratch[4] = weekday >= 5
    scratch[5] = hour <= 6
    scratch[6] = columns.channel[row]
    scratch[7] = columns.mcc[row] if columns.mcc[row] >= 0 else np.nan
    scratch[8] = np.nan
    scratch[9] = np.nan
    if card_country != 0 and ip_country != 0:
        scratch[8] = ip_country != card_country
    if card_country != 0 and merchant_country != 0:
        scratch[9] = merchant_country != card_country


@compiled
def _find_value(table, slot, time, value):  # type: ignore[no-untyped-def]
    """Return the pool index of the event (time, value), -1 if it is not there."""
    if slot < 0:
        return -1
    index = end_at(table, slot, time) - 1
    while index >= table.slots[slot, START] and table.pool[TIME, index] == time:
        if table.pool[VALUE, index] == value:
            return index
        index -= 1
    return -1


@leaf
def find_transaction(table, slot, transaction, floor):  # type: ignore[no-untyped-def]
    """Return the pool index of a retained transaction of the card, -1 if it is not there."""
    start = table.slots[slot, START]
    for index in range(start + table.slots[slot, EVENTS] - 1, start - 1, -1):
        if table.pool[TIME, index] <= floor:
            return -1
        if table.pool[TRANSACTION, index] == transaction:
            return index
    return -1


@leaf
def _add_shared(table, slot, time, value, keep, label_delay, amounts):  # type: ignore[no-untyped-def]
    if slot < 0 or time <= table.slots[slot, NEWEST] - keep:
        return False
    place = make_place(table, slot, time, max(time, table.slots[slot, NEWEST]) - keep)
    table.pool[VALUE, place] = value
    table.slots[slot, FIRST] = min(table.slots[slot, FIRST], time)
    table.slots[slot, NEWEST] = max(table.slots[slot, NEWEST], time)
    table.slots[slot, TOUCHED] |= CHANGED
    if fold(table, slot, keep, label_delay, amounts, not amounts):
        table.slots[slot, TOUCHED] |= FOLDED
    return True


@compiled
def fraud_tag(transaction, card):  # type: ignore[no-untyped-def]
    """Return the identity of a fraud on a shared entity: transaction and card in one hash."""
    return (np.int64(transaction) & TRANSACTION_BITS) ^ np.int64(card)


@compiled
def add_fraud(table, slot, time, transaction, keep, label_delay):  # type: ignore[no-untyped-def]
    """Note a fraud on a shared entity; a full list is folded first."""
    if slot < 0:
        return
    if fold_frauds(table, slot, keep, label_delay):
        table.slots[slot, TOUCHED] |= FOLDED
    add_mark(table, slot, time, transaction)
    table.slots[slot, TOUCHED] |= CHANGED


@leaf
def _add_card(table, slot, x, keep, label_delay):  # type: ignore[no-untyped-def]
    place = make_place(table, slot, x.time, max(x.time, table.slots[slot, NEWEST]) - keep)
    table.pool[VALUE, place] = x.amount
    table.pool[TRANSACTION, place] = x.transaction
    table.pool[MERCHANT, place] = x.merchant
    table.pool[DEVICE, place] = x.device
    table.pool[IP, place] = x.ip
    table.pool[POSITION, place] = x.position
    table.pool[MCC, place] = x.mcc
    table.pool[COUNTRY, place] = x.country
    table.pool[FRAUD, place] = 0
    table.slots[slot, FIRST] = min(table.slots[slot, FIRST], x.time)
    table.slots[slot, NEWEST] = max(table.slots[slot, NEWEST], x.time)
    table.slots[slot, TOUCHED] |= CHANGED
    labelled = remove_mark(table, slot, x.transaction)
    table.pool[FRAUD, place] = 1 if labelled else 0
    fold(table, slot, keep, label_delay, True, False)
    return labelled


@leaf
def _statistics(tables, slots, plan, keep, work, columns, row, x):  # type: ignore[no-untyped-def]
    _transaction_statistics(work.scratch, columns, row)
    card_statistics(tables.card, slots.card[row], plan.card, keep, work.card_set, work.starts,
                    work.histogram, work.scratch, x)  # fmt: skip
    shared_statistics(tables.merchant, slots.merchant[row], plan.merchant, keep, plan.label_delay,
                      plan.merchant_prior, plan.merchant_weight, True, work.shared_set,
                      work.starts, work.scratch, x)  # fmt: skip
    shared_statistics(tables.device, slots.device[row], plan.device, keep, plan.label_delay,
                      plan.merchant_prior, plan.merchant_weight, False, work.shared_set,
                      work.starts, work.scratch, x)  # fmt: skip
    shared_statistics(tables.ip, slots.ip[row], plan.ip, keep, plan.label_delay,
                      plan.merchant_prior, plan.merchant_weight, False, work.shared_set,
                      work.starts, work.scratch, x)  # fmt: skip


@compiled
def _without(table, slot, time, value):  # type: ignore[no-untyped-def]
    """Take the event (time, value) out; return whether it was there."""
    index = _find_value(table, slot, time, value)
    if index < 0:
        return False
    take_out(table, slot, index)
    return True


@compiled
def _duplicate_statistics(tables, slots, plan, keep, work, columns, row, x, original):  # type: ignore[no-untyped-def]
    """Statistics with the original left out of every entity; the state is put back after.

    A place just emptied is there again, so putting back neither moves a block nor drops an event.
    """
    card = tables.card
    slot = slots.card[row]
    saved = work.saved
    for column in range(len(saved)):
        saved[column] = card.pool[column, original]
    place = original - card.slots[slot, START]
    take_out(card, slot, original)
    time = saved[TIME]
    merchant = saved[MERCHANT] == x.merchant and _without(
        tables.merchant, slots.merchant[row], time, saved[VALUE]
    )
    device = saved[DEVICE] == x.device and _without(tables.device, slots.device[row], time, x.card)
    ip = saved[IP] == x.ip and _without(tables.ip, slots.ip[row], time, x.card)
    tag = fraud_tag(x.transaction, x.card)
    at_merchant = slots.merchant[row] >= 0 and remove_mark(
        tables.merchant, slots.merchant[row], tag
    )
    at_device = slots.device[row] >= 0 and remove_mark(tables.device, slots.device[row], tag)
    at_ip = slots.ip[row] >= 0 and remove_mark(tables.ip, slots.ip[row], tag)
    _statistics(tables, slots, plan, keep, work, columns, row, x)
    if at_merchant:
        add_mark(tables.merchant, slots.merchant[row], time, tag)
    if at_device:
        add_mark(tables.device, slots.device[row], time, tag)
    if at_ip:
        add_mark(tables.ip, slots.ip[row], time, tag)
    lowest = np.int64(-(2**62))
    back = make_place(card, slot, time, lowest)
    while back > card.slots[slot, START] + place:
        copy_event(card, back - 1, back)
        back -= 1
    for column in range(len(saved)):
        card.pool[column, back] = saved[column]
    if merchant:
        at = make_place(tables.merchant, slots.merchant[row], time, lowest)
        tables.merchant.pool[VALUE, at] = saved[VALUE]
    if device:
        at = make_place(tables.device, slots.device[row], time, lowest)
        tables.device.pool[VALUE, at] = x.card
    if ip:
        at = make_place(tables.ip, slots.ip[row], time, lowest)
        tables.ip.pool[VALUE, at] = x.card


@compiled
def run(tables, slots, plan, columns, work, first, vectors, flags, effects):  # type: ignore[no-untyped-def]
    """Process rows first..n-1; return the row at which a table ran out of room, or n.

    Args:
        tables, slots: state and where each row's entities are in it.
        vectors: float32[n, features], filled. flags: uint8[n], filled (DUPLICATE, LATE).
        effects: uint8[n] of zeros; bits say to which shared entities the row was added
            (TO_MERCHANT, TO_DEVICE, TO_IP) and that a pending fraud label met it (FRAUD_FOUND).
    """
    keep = RETENTION + plan.label_delay
    scratch = work.scratch
    for row in range(first, columns.time.shape[0]):
        if not (
            has_room(tables.card)
            and has_room(tables.merchant)
            and has_room(tables.device)
            and has_room(tables.ip)
        ):
            return row
        country = columns.merchant_country[row]
        if country == 0:
            country = columns.ip_country[row]
        x = Event(
            columns.time[row], columns.amount[row],
            np.int64(columns.transaction[row]) & TRANSACTION_BITS, np.int64(columns.card[row]),
            np.int64(columns.merchant[row]), np.int64(columns.device[row]),
            np.int64(columns.ip[row]), np.int64(columns.position[row]),
            np.int64(columns.mcc[row]) + 1, np.int64(country),
        )  # fmt: skip
        slot = slots.card[row]
        card = tables.card
        original = find_transaction(card, slot, x.transaction, card.slots[slot, NEWEST] - keep)
        if original >= 0:
            flags[row] = DUPLICATE
            if x.time <= card.slots[slot, NEWEST] - RETENTION:
                flags[row] |= LATE
            _duplicate_statistics(tables, slots, plan, keep, work, columns, row, x, original)
        else:
            _statistics(tables, slots, plan, keep, work, columns, row, x)
            if x.time <= card.slots[slot, NEWEST] - RETENTION:
                flags[row] = LATE
            else:
                flags[row] = 0
                delay = plan.label_delay
                if _add_shared(
                    tables.merchant,
                    slots.merchant[row],
                    x.time,
                    x.amount,
                    keep,
                    delay,
                    True,
                ):
                    effects[row] |= TO_MERCHANT
                if _add_shared(
                    tables.device, slots.device[row], x.time, x.card, keep, delay, False
                ):
                    effects[row] |= TO_DEVICE
                if _add_shared(tables.ip, slots.ip[row], x.time, x.card, keep, delay, False):
                    effects[row] |= TO_IP
                if _add_card(card, slot, x, keep, delay):
                    effects[row] |= FRAUD_FOUND
                    tag = fraud_tag(x.transaction, x.card)
                    add_fraud(tables.merchant, slots.merchant[row], x.time, tag, keep, delay)
                    add_fraud(tables.device, slots.device[row], x.time, tag, keep, delay)
                    add_fraud(tables.ip, slots.ip[row], x.time, tag, keep, delay)
        for k in range(plan.source.shape[0]):
            number = scratch[plan.source[k]]
            if plan.baseline[k] >= 0:
                average = scratch[plan.baseline[k]] / plan.baseline_windows[k]
                number = number / average if average != 0 else np.nan
            vectors[row, k] = np.float32(number)
    return columns.time.shape[0]
