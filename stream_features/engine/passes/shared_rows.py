"""The pass over merchants, devices or IP addresses, which follows the pass over cards."""

from __future__ import annotations

from typing import Final

import numpy as np

from schemas.compiled import compiled, leaf
from stream_features.engine.passes.workspace import (
    CHANGED,
    DUPLICATE,
    FOLDED,
    FRAUD_FOUND,
    LATE,
    RETENTION,
    fraud_tag,
    is_counted,
    write_features,
)
from stream_features.engine.state.entities import (
    CAPACITY,
    EVENTS,
    FIRST,
    FLAGS,
    NEWEST,
    START,
    TIME,
    TOUCHED,
    VALUE,
    add_mark,
    column_of,
    events_until,
    has_room,
    mark_newest,
    open_place,
    prune,
    remove_mark,
    take_out,
)
from stream_features.engine.state.fold import fold, fold_frauds
from stream_features.engine.state.prefetch import (
    BLOCK_AHEAD,
    SLOT_AHEAD,
    ask_for_column,
    ask_for_slot,
)
from stream_features.engine.statistics.shared import shared_statistics


@compiled
def add_fraud(table, slot, time, tag, keep, label_delay):  # type: ignore[no-untyped-def]
    """Add a fraud to a shared entity, after folding its list if that is full."""
    if slot < 0:
        return
    if fold_frauds(table, slot, keep, label_delay):
        table.slots[slot, TOUCHED] |= FOLDED
    add_mark(table, slot, time, tag)
    table.slots[slot, TOUCHED] |= CHANGED


@compiled
def attribute_frauds(table, slots, times, tags, fraud, first, label_delay):  # type: ignore[no-untyped-def]
    """Apply labels first..n-1 to their shared entities; return the row that ran out of room, or n.

    Args:
        slots: int64[n], -1 if the transaction does not name such an entity.
        times, tags: int64[n], of the transactions (see `fraud_tag`). fraud: bool[n]; False takes a
            fraud back.
    """
    keep = RETENTION + label_delay
    for row in range(first, len(slots)):
        if not has_room(table):
            return row
        if fraud[row]:
            add_fraud(table, slots[row], times[row], tags[row], keep, label_delay)
        elif slots[row] >= 0:
            remove_mark(table, slots[row], tags[row])
    return len(slots)


@compiled
def _without(table, slot, time, value):  # type: ignore[no-untyped-def]
    """Remove the newest event (time, value); return whether it was found."""
    count = events_until(table, slot, time)
    times = column_of(table, slot, TIME, count)
    values = column_of(table, slot, VALUE, count)
    for index in range(count - 1, -1, -1):
        if times[index] != time:
            return False
        if values[index] == value:
            take_out(table, slot, index)
            return True
    return False


@leaf
def put_event(table, slot, place, time, value, last):  # type: ignore[no-untyped-def]
    """Insert an event as number `place`.

    `last` is the newest event with the same value, or -1. The flags are updated only if the event
    becomes the newest; otherwise call `mark_newest`.
    """
    newest = place == table.slots[slot, EVENTS]
    open_place(table, slot, place)
    capacity = table.slots[slot, CAPACITY]
    at = table.slots[slot, START] + place
    table.pool[at + TIME * capacity] = time
    table.pool[at + VALUE * capacity] = value
    table.pool[at + FLAGS * capacity] = table.distinct
    if newest and last >= 0:
        table.pool[at - place + last + FLAGS * capacity] = 0


@compiled
def _put_back(table, slot, time, value):  # type: ignore[no-untyped-def]
    put_event(table, slot, events_until(table, slot, time), time, value, -1)


SLOT, ROW, INPUT_TIME, INPUT_VALUE, TAG, COUNTED = range(6)
SHARED_INPUTS: Final = 6
"""The inputs of one row."""


@compiled
def gather_shared_rows(slots, order, columns, values, out):  # type: ignore[no-untyped-def]
    """Fill `out` (int64[n, SHARED_INPUTS]) with the inputs of each row, in order."""
    for position in range(len(order)):
        row = order[position]
        out[position, SLOT] = slots[row]
        out[position, ROW] = row
        out[position, INPUT_TIME] = columns.time[row]
        out[position, INPUT_VALUE] = values[row]
        out[position, TAG] = fraud_tag(columns.transaction[row], columns.card[row])
        out[position, COUNTED] = is_counted(columns.kind[row])


@leaf
def _ask_ahead(table, inputs, position):  # type: ignore[no-untyped-def]
    later = min(position + SLOT_AHEAD, len(inputs) - 1)
    slot = inputs[later, SLOT]
    if slot >= 0 and slot != inputs[later - 1, SLOT]:
        ask_for_slot(table, slot)
    soon = min(position + BLOCK_AHEAD, len(inputs) - 1)
    slot = inputs[soon, SLOT]
    if slot >= 0 and slot != inputs[soon - 1, SLOT]:
        ask_for_column(table, slot, TIME)
        ask_for_column(table, slot, VALUE)
        if table.distinct > 0:
            ask_for_column(table, slot, FLAGS)


@compiled
def shared_rows(table, inputs, first, plan, bit, work, rows):  # type: ignore[no-untyped-def]
    """Process inputs[first:]; return the position at which the table ran out of room, or n.

    Args:
        table: the entities. inputs: see `gather_shared_rows`; values are amounts for merchants and
            cards for the others. Rows without the entity get NaN.
        bit: the bit of this kind in effects (TO_MERCHANT, …).
        rows: the results of the pass over cards, which say what is duplicate, late or fraud.
    """
    keep = RETENTION + plan.label_delay
    for position in range(first, len(inputs)):
        if not has_room(table):
            return position
        _ask_ahead(table, inputs, position)
        slot = inputs[position, SLOT]
        row = inputs[position, ROW]
        if slot < 0:
            for k in range(len(plan.features)):
                rows.vectors[row, plan.features[k]] = np.nan
            continue
        time = inputs[position, INPUT_TIME]
        value = inputs[position, INPUT_VALUE]
        newest = table.slots[slot, NEWEST]
        prune(table, slot, newest - keep)
        duplicate = rows.flags[row] & DUPLICATE
        taken = False
        labelled = False
        original_value = value
        if duplicate:
            if table.distinct == 0:
                original_value = rows.original_amount[row]
            taken = rows.alike[row] & bit != 0 and _without(
                table, slot, rows.original_time[row], original_value
            )
            labelled = remove_mark(table, slot, inputs[position, TAG])
        count = events_until(table, slot, time)
        disturbed = taken or count < table.slots[slot, EVENTS]
        if disturbed:
            mark_newest(table, slot, count)
        counted = inputs[position, COUNTED]
        last = shared_statistics(table, slot, count, plan, keep, work, time, value, counted)  # fmt: skip
        write_features(plan, work.scratch, rows.vectors[row])
        if duplicate:
            if labelled:
                add_mark(table, slot, rows.original_time[row], inputs[position, TAG])
            if taken:
                _put_back(table, slot, rows.original_time[row], original_value)
        elif counted == 1 and rows.flags[row] & LATE == 0 and time > newest - keep:
            put_event(table, slot, count, time, value, last)
            table.slots[slot, FIRST] = min(table.slots[slot, FIRST], time)
            table.slots[slot, NEWEST] = max(newest, time)
            table.slots[slot, TOUCHED] |= CHANGED
            rows.effects[row] |= bit
        if disturbed:
            mark_newest(table, slot, table.slots[slot, EVENTS])
        if table.slots[slot, EVENTS] > table.limit and fold(table, slot, keep, plan.label_delay):
            table.slots[slot, TOUCHED] |= FOLDED
        if rows.effects[row] & FRAUD_FOUND:
            add_fraud(table, slot, time, inputs[position, TAG], keep, plan.label_delay)
    return len(inputs)
