"""The entities of one batch: ids to slots and keys, stored bytes to tables and back."""

from __future__ import annotations

import numpy as np

from schemas.compiled import compiled, leaf
from schemas.hash_table import EMPTY
from stream_features.engine.passes.workspace import FRAUD_FOUND, fraud_tag
from stream_features.engine.state.blob import (
    EVENT,
    FRAUD_ADDED,
    RECORD_SIZE,
    pack_card,
    pack_shared,
    put_record,
    unpack_card,
    unpack_shared,
)
from stream_features.engine.state.blob_check import SOUND, find_fault
from stream_features.engine.state.entities import (
    CARD_COLUMNS,
    EVENTS,
    HOT_ROW,
    HOT_USED,
    MARKED,
    MARKS_USED,
    POOL_USED,
    SEEN,
    SLOTS_USED,
    TILES,
    TOUCHED,
    assign_slots,
    has_room,
)
from stream_features.engine.state.packing import SLACK, get, put


@compiled
def open_slots(table, slot_of, ids, slots, distinct):  # type: ignore[no-untyped-def]
    """Empty the table, give each distinct id a slot in order of appearance; return their number.

    Args:
        slot_of: a hash table with room for n rows, see `schemas.hash_table`; it is emptied first.
        ids: uint64[n]. slots: int64[n], filled; -1 for the missing id 0.
        distinct: uint64[n], filled with the id of each slot.
    """
    table.used[POOL_USED] = 0
    table.used[SLOTS_USED] = 0
    table.used[HOT_USED] = 0
    table.used[MARKS_USED] = 0
    slot_of[:] = EMPTY
    assign_slots(slot_of, distinct, ids, table, slots)
    return table.used[SLOTS_USED]


@compiled
def write_keys(prefix, letter, distinct, out, at):  # type: ignore[no-untyped-def]
    """Write the keys of n ids as `schemas.keys.entity_key` does; return where they end."""
    for index in range(len(distinct)):
        for place in range(len(prefix)):
            out[at + place] = prefix[place]
        at += len(prefix)
        out[at] = letter
        at = put(out, at + 1, np.int64(distinct[index]), 8)
    return at


@compiled
def unpack_entities(table, data, bounds, generations, faults, first, label_delay):  # type: ignore[no-untyped-def]
    """Fill the slots from `first` on; return the slot at which the table ran out of room, or n.

    A value that cannot be unpacked is refused: its slot stays as it is for a new entity.

    Args:
        data: uint8, all values followed by SLACK more bytes.
        bounds: int64[n + 1]; the value of slot s is data[bounds[s]:bounds[s + 1]], empty if new.
        generations: int64[n], filled for shared entities.
        faults: uint8[n], filled with what is wrong with each value, see `blob_check.FAULTS`.
        label_delay: ms.
    """
    wide = table.columns == CARD_COLUMNS
    for slot in range(first, len(generations)):
        at, end = bounds[slot], bounds[slot + 1]
        generations[slot] = 0
        faults[slot] = SOUND
        if at == end:
            continue
        faults[slot] = find_fault(table, data, at, end)
        if faults[slot] != SOUND:
            # The next commit replaces the value if its first four bytes are still the same.
            generations[slot] = get(data, at, min(4, end - at))
            continue
        events = get(data, at if wide else at + 12, 2)
        if not wide:
            events += (end - at) // RECORD_SIZE
        room = len(table.pool) - table.used[POOL_USED]
        if (events + 2 * (table.limit + 3)) * table.columns > room or not has_room(table):
            return slot
        if wide:
            unpack_card(table, slot, data, at)
        else:
            generations[slot] = unpack_shared(table, slot, data, at, end, label_delay)
    return len(generations)


@leaf
def _bound(table, slot):  # type: ignore[no-untyped-def]
    """Return an upper bound of the packed size of an entity, in bytes."""
    event = 100 if table.columns == CARD_COLUMNS else 20
    folded = 64 * TILES + 32 * SEEN if table.slots[slot, HOT_ROW] >= 0 else 0
    return 1024 + event * table.slots[slot, EVENTS] + 20 * table.slots[slot, MARKED] + folded


@compiled
def pack_entities(table, bit, generations, out, which, ends):  # type: ignore[no-untyped-def]
    """Pack the entities that carry `bit`, one after the other.

    Args:
        generations: int64[n], as loaded. out: uint8.
        which, ends: int64[n], filled with the slots that were packed and where each ends in `out`.

    Returns:
        The number of packed entities, or minus the required length if `out` is too short.
    """
    size = SLACK
    for slot in range(len(generations)):
        if table.slots[slot, TOUCHED] & bit:
            size += _bound(table, slot)
    if size > len(out):
        return -size
    at = 0
    packed = 0
    for slot in range(len(generations)):
        if table.slots[slot, TOUCHED] & bit:
            if table.columns == CARD_COLUMNS:
                at = pack_card(table, slot, out, at)
            else:
                at = pack_shared(table, slot, generations[slot] + 1, out, at)
            which[packed] = slot
            ends[packed] = at
            packed += 1
    return packed


@compiled
def write_records(slots, effects, bit, columns, values, out, ends):  # type: ignore[no-untyped-def]
    """Write the records that a batch adds to one kind of shared entity, grouped by entity.

    Args:
        slots: int64[n], of the rows. effects: uint8[n], see `workspace`; `bit` is this kind's.
        values: int64[n], of the events. out: uint8, 2n records and SLACK bytes long.
        ends: int64[entities], filled: the records of slot s, in order of the rows, end at ends[s]
            and begin where those of s - 1 end.

    Returns:
        The end of all records.
    """
    ends[:] = 0
    for row in range(len(slots)):
        if slots[row] >= 0:
            if effects[row] & bit:
                ends[slots[row]] += RECORD_SIZE
            if effects[row] & FRAUD_FOUND:
                ends[slots[row]] += RECORD_SIZE
    total = 0
    for slot in range(len(ends)):
        size = ends[slot]
        ends[slot] = total
        total += size
    for row in range(len(slots)):
        slot = slots[row]
        if slot >= 0:
            time = columns.time[row]
            if effects[row] & bit:
                ends[slot] = put_record(out, ends[slot], EVENT, time, values[row])
            if effects[row] & FRAUD_FOUND:
                tag = fraud_tag(columns.transaction[row], columns.card[row])
                ends[slot] = put_record(out, ends[slot], FRAUD_ADDED, time, tag)
    return total
