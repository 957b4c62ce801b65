"""Compiled join of decisions, labels and channels by transaction, which is an id on a card.

Each transaction has one record, in a fixed number of slots behind a hash table. The slots form four
rings: two for records without a decision yet, one for approved and one for flagged decisions. A
full ring drops its oldest record, so memory never grows. The contribution of a record to its cell
is taken back before the record changes and added again after, so the order of arrival does not
matter, but for labels of the same transaction and time.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit

from schemas.hash_table import find, remove

CHANNEL_FIRST, LABEL_FIRST, APPROVED, FLAGGED = range(4)
"""Rings: vector seen first; label seen first; decided APPROVE; decided REVIEW or BLOCK."""
UNDECIDED: Final = 255
NO_BIN: Final = 255
UNKNOWN_CHANNEL: Final = 5
CHANNEL_CODES: Final = 6
NO_LABEL, GENUINE, FRAUD, LOST = range(4)
"""LOST: the record was dropped before the label delay had passed, so its label stays unknown."""
LABELS_OF: Final = 4
DECIDED, VALUE = 0, 12
"""Places in a cell: decisions at action · 4 + label, then the blocked value, the blocked fraud
value and the approved fraud value."""
CELL_NUMBERS: Final = 15
BINS: Final = 64
REPEATED, OUT_OF_RANGE, UNMATCHED, FORGOTTEN, FLIPPED, LABELS = range(6)
"""Counters: repeated decisions; decisions outside the retained hours; labels without a retained
decision; decisions whose record was dropped before their label or the end of the label delay;
changed labels; labels."""
COUNTERS: Final = 6
HOUR_MS: Final = 3_600_000


class Store(NamedTuple):
    """Arrays of the records by slot, the hash table and the cells, as `Quality` allocates them."""

    key: Any
    hour: Any
    model: Any
    action: Any
    bin: Any
    channel: Any
    label: Any
    amount: Any
    label_time: Any
    table: Any
    starts: Any
    heads: Any
    counters: Any
    numbers: Any
    histograms: Any
    model_slot: Any
    newest: Any
    missed: Any


@njit(cache=True, inline="always")
def _place(store, key):
    return find(store.table, store.key, key)


@njit(cache=True)
def _take_slot(store, ring):
    """Return the next slot of a ring, after dropping its record, the oldest."""
    size = store.starts[ring + 1] - store.starts[ring]
    slot = store.starts[ring] + store.heads[ring] % size
    store.heads[ring] += 1
    key = store.key[slot]
    if key != 0:
        remove(store.table, store.key, _place(store, key))
        if store.action[slot] != UNDECIDED:
            if store.label[slot] == NO_LABEL and store.hour[slot] > store.newest[1]:
                store.counters[FORGOTTEN] += 1
                _count(store, slot, -1)
                store.label[slot] = LOST
                _count(store, slot, 1)
        else:
            store.counters[UNMATCHED] += store.label[slot] != NO_LABEL
        store.key[slot] = 0
    return slot


@njit(cache=True)
def _make(store, key, ring):
    slot = _take_slot(store, ring)
    store.table[_place(store, key)] = slot
    store.key[slot] = key
    store.action[slot] = UNDECIDED
    store.channel[slot] = UNKNOWN_CHANNEL
    store.label[slot] = NO_LABEL
    return slot


@njit(cache=True)
def _move(store, old, ring):
    slot = _take_slot(store, ring)
    key = store.key[old]
    store.table[_place(store, key)] = slot
    store.key[slot], store.key[old] = key, 0
    store.action[slot] = store.action[old]
    store.channel[slot] = store.channel[old]
    store.label[slot] = store.label[old]
    store.label_time[slot] = store.label_time[old]
    return slot


@njit(cache=True, inline="always")
def _is_kept(store, hour):
    return store.newest[0] - store.numbers.shape[1] < hour <= store.newest[0]


@njit(cache=True)
def _count(store, slot, sign):
    """Add a decided record to its cell, or take it back; return False without such a cell."""
    model = store.model_slot[store.model[slot]]
    if store.action[slot] == UNDECIDED or model < 0 or not _is_kept(store, store.hour[slot]):
        return False
    hour = store.hour[slot] % store.numbers.shape[1]
    channel, action, label = store.channel[slot], store.action[slot], store.label[slot]
    cell = store.numbers[model, hour, channel]
    cell[DECIDED + action * LABELS_OF + label] += sign
    if action == 2:
        cell[VALUE] += sign * store.amount[slot]
        if label == FRAUD:
            cell[VALUE + 1] += sign * store.amount[slot]
    elif action == 0 and label == FRAUD:
        cell[VALUE + 2] += sign * store.amount[slot]
    if store.bin[slot] != NO_BIN:
        store.histograms[model, hour, channel, label, store.bin[slot]] += sign
    return True


@njit(cache=True)
def _note_missed(store, slot):
    """Count an approved fraud in the hour in which its label became known."""
    if store.action[slot] == 0 and store.label[slot] == FRAUD:
        hour = store.label_time[slot] // HOUR_MS
        if _is_kept(store, hour):
            store.missed[hour % len(store.missed)] += 1


@njit(cache=True)
def add_decisions(store, keys, hours, models, actions, bins, amounts):
    """Note n decisions; the first of each transaction counts."""
    for row in range(len(keys)):
        if not _is_kept(store, hours[row]):
            store.counters[OUT_OF_RANGE] += 1
            continue
        ring = APPROVED if actions[row] == 0 else FLAGGED
        slot = np.int64(store.table[_place(store, keys[row])])
        if slot < 0:
            slot = _make(store, keys[row], ring)
        elif store.action[slot] != UNDECIDED:
            store.counters[REPEATED] += 1
            continue
        else:
            slot = _move(store, slot, ring)
        store.hour[slot], store.model[slot] = hours[row], models[row]
        store.action[slot], store.bin[slot] = actions[row], bins[row]
        store.amount[slot] = amounts[row]
        _count(store, slot, 1)
        _note_missed(store, slot)


@njit(cache=True)
def add_labels(store, keys, frauds, times):
    """Note n labels; the newest of each transaction counts, the last among equally new ones."""
    for row in range(len(keys)):
        store.counters[LABELS] += 1
        slot = np.int64(store.table[_place(store, keys[row])])
        if slot < 0:
            slot = _make(store, keys[row], LABEL_FIRST)
        elif store.action[slot] == UNDECIDED and store.label[slot] == NO_LABEL:
            slot = _move(store, slot, LABEL_FIRST)
        label = FRAUD if frauds[row] else GENUINE
        known = store.label[slot]
        repeated = label == known and times[row] == store.label_time[slot]
        if known != NO_LABEL and (times[row] < store.label_time[slot] or repeated):
            continue
        _count(store, slot, -1)
        store.label[slot], store.label_time[slot] = label, times[row]
        if store.action[slot] != UNDECIDED and not _count(store, slot, 1):
            store.counters[UNMATCHED] += 1
        if label == FRAUD and known != FRAUD:
            _note_missed(store, slot)
        store.counters[FLIPPED] += known != NO_LABEL and known != label


@njit(cache=True)
def add_channels(store, keys, channels):
    """Note the channels of n transactions."""
    for row in range(len(keys)):
        slot = np.int64(store.table[_place(store, keys[row])])
        if slot < 0:
            slot = _make(store, keys[row], CHANNEL_FIRST)
        elif store.channel[slot] == channels[row]:
            continue
        decided = store.action[slot] != UNDECIDED
        if decided:
            _count(store, slot, -1)
        store.channel[slot] = channels[row]
        if decided:
            _count(store, slot, 1)
