"""Compiled reading of Decisions."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from schemas.codec.transactions_kernel import MISSING, read_branch, read_long, read_text
from schemas.codec.vectors_kernel import matches
from schemas.keys import hash_span

NUMBERS: Final = (
    "source_partition", "source_offset", "event_time", "amount", "received_at", "computed_at",
    "decided_at",
)  # fmt: skip
PARTITION, OFFSET, TIME, AMOUNT, RECEIVED, COMPUTED, DECIDED = range(7)
CODES: Final = ("action", "role", "duplicate", "late", "degraded")
ACTION, ROLE, DUPLICATE, LATE, DEGRADED = range(5)
TEXTS: Final = ("transaction_id", "card_id", "merchant_id", "currency", "model_id")
TRANSACTION_ID, CARD, MERCHANT, CURRENCY, MODEL = range(5)
SCORE, ANOMALY = 0, 1


@njit(cache=True, inline="always")
def _read_double(buffer, position, stop, row, place, bits):
    """Read a ["null", "double"] into bits[row, place], null as NaN; the next position or -1."""
    branch, position = read_branch(buffer, position, stop)
    bits[row, place] = MISSING
    if position < 0 or branch == 0:
        return position
    if position + 8 > stop:
        return -1
    value = np.uint64(0)
    for index in range(8):
        value |= np.uint64(buffer[position + index]) << np.uint64(8 * index)
    bits[row, place] = value
    return position + 8


@njit(cache=True)
def _skip_items(buffer, position, stop, kind):
    """Skip an array of texts (0), Reasons (1) or ShadowScores (2); the next position or -1."""
    while True:
        count, position = read_long(buffer, position, stop)
        if position < 0:
            return -1
        if count == 0:
            return position
        if count < 0:
            count = -count
            _, position = read_long(buffer, position, stop)
            if position < 0:
                return -1
        if count < 0 or count > stop - position:
            return -1
        for _item in range(count):
            for _text in range(2 if kind == 1 else 1):
                _, position = read_text(buffer, position, stop)
                if position < 0:
                    return -1
            if kind == 1:
                branch, position = read_branch(buffer, position, stop)
                if position < 0:
                    return -1
                if branch:
                    position += 8
            elif kind == 2:
                position += 8
            if position > stop:
                return -1


@njit(cache=True)
def decode_decisions(buffer, starts, header, numbers, codes, spans, scores, hashes):
    """Decode n Decision messages; return uint8[n], 1 where the row could be read.

    Fills numbers int64[n, 7], codes uint8[n, 5], spans int64[n, 5, 2], scores float64[n, 2] and
    hashes uint64[n, 2] (transaction, model; 0 without a model).
    """
    count = len(starts) - 1
    readable = np.zeros(count, np.uint8)
    bits = scores.view(np.uint64)
    for row in range(count):
        position, stop = starts[row], starts[row + 1]
        if stop - position < len(header) or not matches(buffer, position, header):
            continue
        readable[row] = (
            _decode_row(buffer, position + len(header), stop, row, numbers, codes, spans, bits)
            == stop
        )
        if readable[row]:
            for place, field in enumerate((TRANSACTION_ID, MODEL)):
                start, end = spans[row, field, 0], spans[row, field, 1]
                hashes[row, place] = hash_span(buffer, start, end) if end > 0 else np.uint64(0)
    return readable


@njit(cache=True)
def _decode_row(buffer, position, stop, row, numbers, codes, spans, bits):
    for field in (PARTITION, OFFSET):
        numbers[row, field], position = read_long(buffer, position, stop)
        if position < 0:
            return -1
    for field in (TRANSACTION_ID, CARD, MERCHANT):
        spans[row, field, 0], position = read_text(buffer, position, stop)
        if position < 0:
            return -1
        spans[row, field, 1] = position
    for field in (TIME, AMOUNT):
        numbers[row, field], position = read_long(buffer, position, stop)
        if position < 0:
            return -1
    spans[row, CURRENCY, 0], position = read_text(buffer, position, stop)
    if position < 0:
        return -1
    spans[row, CURRENCY, 1] = position
    action, position = read_long(buffer, position, stop)
    if position < 0 or not 0 <= action <= 2:
        return -1
    codes[row, ACTION] = action
    for place in (SCORE, ANOMALY):
        position = _read_double(buffer, position, stop, row, place, bits)
        if position < 0:
            return -1
    branch, position = read_branch(buffer, position, stop)
    if position < 0:
        return -1
    spans[row, MODEL, 0], spans[row, MODEL, 1] = 0, 0
    if branch:
        spans[row, MODEL, 0], position = read_text(buffer, position, stop)
        if position < 0:
            return -1
        spans[row, MODEL, 1] = position
    role, position = read_long(buffer, position, stop)
    if position < 0 or not 0 <= role <= 2:
        return -1
    codes[row, ROLE] = role
    _, position = read_text(buffer, position, stop)
    if position < 0 or position + 2 > stop:
        return -1
    codes[row, DUPLICATE], codes[row, LATE] = buffer[position], buffer[position + 1]
    if codes[row, DUPLICATE] > 1 or codes[row, LATE] > 1:
        return -1
    branch, position = read_branch(buffer, position + 2, stop)
    if position < 0:
        return -1
    codes[row, DEGRADED] = branch
    if branch:
        _, position = read_text(buffer, position, stop)
        if position < 0:
            return -1
    for kind in range(3):
        position = _skip_items(buffer, position, stop, kind)
        if position < 0:
            return -1
    for field in (RECEIVED, COMPUTED, DECIDED):
        numbers[row, field], position = read_long(buffer, position, stop)
        if position < 0:
            return -1
    return position
