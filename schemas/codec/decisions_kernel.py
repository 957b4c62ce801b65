"""Compiled reading and writing of Decisions."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from schemas.codec import transactions_kernel as transaction
from schemas.codec import vectors_kernel as vector
from schemas.codec.avro_reader import (
    matches,
    read_block,
    read_branch,
    read_long,
    read_optional_double,
    read_text,
    skip_texts,
)
from schemas.codec.avro_writer import (
    write_bytes,
    write_double,
    write_long,
    write_optional_double,
    write_text,
)
from schemas.columns import KINDS
from schemas.keys import hash_span

NUMBERS: Final = (
    "source_partition", "source_offset", "event_time", "amount", "received_at", "computed_at",
    "decided_at",
)  # fmt: skip
PARTITION, OFFSET, TIME, AMOUNT, RECEIVED, COMPUTED, DECIDED = range(7)
CODES: Final = ("action", "role", "duplicate", "late", "degraded", "kind")
ACTION, ROLE, DUPLICATE, LATE, DEGRADED, KIND = range(6)
TEXTS: Final = ("transaction_id", "card_id", "merchant_id", "currency", "model_id")
TRANSACTION_ID, CARD, MERCHANT, CURRENCY, MODEL = range(5)
SCORE, ANOMALY = 0, 1
MAX_SHADOW_BYTES = 18
"""Bytes that a shadow takes beside its name: the longest length prefix, and the score."""
MAX_FIXED_BYTES = 200
"""More bytes than the longest numbers and the length prefixes of a Decision take."""
_COPIED = (
    transaction.TRANSACTION_ID,
    transaction.CARD,
    transaction.MERCHANT,
    transaction.CURRENCY,
)


@njit(cache=True)
def _skip_items(buffer, position, stop, kind):
    """Skip an array of texts (0), Reasons (1) or ShadowScores (2); the next position or -1."""
    while True:
        count, position = read_block(buffer, position, stop)
        if position < 0 or count == 0:
            return position
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

    Fills numbers int64[n, 7], codes uint8[n, 6], spans int64[n, 5, 2], scores float64[n, 2] and
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
        bits[row, place], position = read_optional_double(buffer, position, stop)
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
    kind, position = read_long(buffer, position, stop)
    if position < 0 or not 0 <= kind < len(KINDS):
        return -1
    codes[row, KIND] = kind
    return skip_texts(buffer, position, stop, 1)


@njit(cache=True)
def _write_shadows(out, position, names, starts, scores):
    """Write the array of ShadowScore; return the next position."""
    present = np.int64(0)
    for shadow in range(len(scores)):
        present += not np.isnan(scores[shadow])
    if present > 0:
        position = write_long(out, position, present)
        for shadow in range(len(scores)):
            if not np.isnan(scores[shadow]):
                position = write_text(out, position, names, starts[shadow], starts[shadow + 1])
                position = write_double(out, position, scores[shadow])
    out[position] = 0
    return position + 1


@njit(cache=True)
def encode_decisions(
    header, buffer, spans, numbers, source, flags, action, score, anomaly, model, models,
    model_starts, role, policy, explanations, explanation_starts, shadows, shadow_starts,
    shadow_scores, decided,
):  # fmt: skip
    """Write n Decisions to their vectors: (bytes uint8[size], ends int64[n]).

    `buffer`, `spans`, `numbers`, `source` and `flags` are as `decode_vectors` filled them.
    `model` k is `models[model_starts[k]:model_starts[k+1]]`, -1 is null; explanation i (degraded,
    rule hits, reasons, already Avro) is `explanations[explanation_starts[i]:…]`; the names of
    shadows lie in `shadows` in the same way, and a score of NaN is left out.
    """
    count = len(action)
    size = len(explanations) + count * (MAX_FIXED_BYTES + len(header) + len(policy))
    size += count * (len(shadows) + MAX_SHADOW_BYTES * len(shadow_scores))
    for row in range(count):
        for field in (*_COPIED, transaction.UNREAD):
            size += spans[row, field, 1] - spans[row, field, 0]
        if model[row] >= 0:
            size += model_starts[model[row] + 1] - model_starts[model[row]]
    out = np.empty(size, np.uint8)
    ends = np.empty(count, np.int64)
    at = 0
    for row in range(count):
        at = write_bytes(out, at, header, 0, len(header))
        at = write_long(out, at, source[row, vector.PARTITION])
        at = write_long(out, at, source[row, vector.OFFSET])
        for field in _COPIED[:3]:
            at = write_text(out, at, buffer, spans[row, field, 0], spans[row, field, 1])
        at = write_long(out, at, numbers[row, transaction.TIME])
        at = write_long(out, at, numbers[row, transaction.AMOUNT])
        at = write_text(
            out,
            at,
            buffer,
            spans[row, transaction.CURRENCY, 0],
            spans[row, transaction.CURRENCY, 1],
        )
        at = write_long(out, at, np.int64(action[row]))
        at = write_optional_double(out, at, score[row])
        at = write_optional_double(out, at, anomaly[row])
        chosen = model[row]
        out[at] = 2 * (chosen >= 0)
        at += 1
        if chosen >= 0:
            at = write_text(out, at, models, model_starts[chosen], model_starts[chosen + 1])
        at = write_long(out, at, np.int64(role[row]))
        at = write_text(out, at, policy, 0, len(policy))
        out[at], out[at + 1] = flags[row] & 1, (flags[row] >> 1) & 1
        at = write_bytes(
            out, at + 2, explanations, explanation_starts[row], explanation_starts[row + 1]
        )
        at = _write_shadows(out, at, shadows, shadow_starts, shadow_scores[:, row])
        at = write_long(out, at, source[row, vector.RECEIVED])
        at = write_long(out, at, source[row, vector.COMPUTED])
        at = write_long(out, at, decided)
        at = write_long(out, at, numbers[row, transaction.KIND])
        at = write_bytes(
            out,
            at,
            buffer,
            spans[row, transaction.UNREAD, 0],
            spans[row, transaction.UNREAD, 1],
        )
        ends[row] = at
    return out[:at], ends
