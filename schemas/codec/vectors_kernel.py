"""Compiled reading of FeatureVectors and writing of Decisions."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from schemas.codec.avro_writer import write_bytes, write_long
from schemas.codec.transactions_kernel import (
    CARD,
    CURRENCY,
    MERCHANT,
    TRANSACTION_ID,
    read_long,
    read_transaction,
)
from schemas.keys import hash_span

SOURCE_FIELDS: Final = (
    "source_partition", "source_offset", "received_at", "computed_at", "vector_start",
    "vector_size", "body_start", "body_stop",
)  # fmt: skip
PARTITION, OFFSET, RECEIVED, COMPUTED, VECTOR_START, VECTOR_SIZE, BODY_START, BODY_STOP = (
    0, 1, 2, 3, 4, 5, 6, 7,
)  # fmt: skip
TIME, AMOUNT = 0, 1
FIXED_SHADOW = 18
"""The longest length prefix of a shadow's name, and its score."""
FIXED_DECISION = 200
"""More than the header, the longest numbers and the length prefixes of a Decision take."""


@njit(cache=True)
def matches(buffer, position, expected):
    """Whether `buffer` holds `expected` at `position`."""
    same = True
    for index in range(len(expected)):
        same &= buffer[position + index] == expected[index]
    return same


@njit(cache=True)
def decode_vectors(
    buffer, starts, header, fingerprint, matrix, source, flags, known, spans, numbers, degrees
):
    """Decode n FeatureVector messages; return uint8[n], 1 where the row could be read.

    `matrix` is uint8[n, 4 · features], filled where fingerprint and size are ours (`known`).
    """
    count, width = matrix.shape
    readable = np.zeros(count, np.uint8)
    bits = degrees.view(np.uint64)
    for row in range(count):
        position, stop = starts[row], starts[row + 1]
        if stop - position < len(header) or not matches(buffer, position, header):
            continue
        position += len(header)
        for field in range(4):
            source[row, field], position = read_long(buffer, position, stop)
            if position < 0:
                break
        if position < 0 or position + 2 + len(fingerprint) > stop:
            continue
        duplicate, late = buffer[position], buffer[position + 1]
        if duplicate > 1 or late > 1:
            continue
        flags[row] = duplicate | late << 1
        position += 2
        ours = matches(buffer, position, fingerprint)
        size, position = read_long(buffer, position + len(fingerprint), stop)
        if position < 0 or not 0 <= size <= stop - position:
            continue
        source[row, VECTOR_START], source[row, VECTOR_SIZE] = position, size
        known[row] = ours and size == width
        if known[row]:
            matrix[row] = buffer[position : position + size]
        source[row, BODY_START], source[row, BODY_STOP] = position + size, stop
        end = read_transaction(buffer, position + size, stop, row, spans, numbers, bits)
        readable[row] = end == stop
    return readable


@njit(cache=True)
def write_text(out, position, source, start, stop):
    """Write a string; return the next position."""
    return write_bytes(out, write_long(out, position, stop - start), source, start, stop)


@njit(cache=True)
def write_optional_double(out, position, value):
    """Write a ["null", "double"], NaN as null; return the next position."""
    if np.isnan(value):
        out[position] = 0
        return position + 1
    out[position] = 2
    out[position + 1 : position + 9].view(np.float64)[0] = value
    return position + 9


@njit(cache=True)
def write_shadows(out, position, names, starts, scores):
    """Write the array of ShadowScore; return the next position."""
    present = np.int64(0)
    for shadow in range(len(scores)):
        present += not np.isnan(scores[shadow])
    if present > 0:
        position = write_long(out, position, present)
        for shadow in range(len(scores)):
            if not np.isnan(scores[shadow]):
                position = write_text(out, position, names, starts[shadow], starts[shadow + 1])
                out[position : position + 8].view(np.float64)[0] = scores[shadow]
                position += 8
    out[position] = 0
    return position + 1


@njit(cache=True)
def encode_decisions(
    head, buffer, spans, numbers, source, flags, action, score, anomaly, model, models,
    model_starts, role, policy, explanations, explanation_starts, shadows, shadow_starts,
    shadow_scores, decided,
):  # fmt: skip
    """Write n Decisions: (bytes uint8[size], ends int64[n]).

    `model` k is `models[model_starts[k]:model_starts[k+1]]`, -1 is null; explanation i (degraded,
    rule hits, reasons, already Avro) is `explanations[explanation_starts[i]:…]`; the names of
    shadows lie in `shadows` in the same way, and a score of NaN is left out.
    """
    count = len(action)
    size = len(explanations) + count * (FIXED_DECISION + len(head) + len(policy))
    size += count * (len(shadows) + FIXED_SHADOW * len(shadow_scores))
    for row in range(count):
        for field in (TRANSACTION_ID, CARD, MERCHANT, CURRENCY):
            size += spans[row, field, 1] - spans[row, field, 0]
        if model[row] >= 0:
            size += model_starts[model[row] + 1] - model_starts[model[row]]
    out = np.empty(size, np.uint8)
    ends = np.empty(count, np.int64)
    at = 0
    for row in range(count):
        at = write_bytes(out, at, head, 0, len(head))
        at = write_long(out, at, source[row, PARTITION])
        at = write_long(out, at, source[row, OFFSET])
        for field in (TRANSACTION_ID, CARD, MERCHANT):
            at = write_text(out, at, buffer, spans[row, field, 0], spans[row, field, 1])
        at = write_long(out, at, numbers[row, TIME])
        at = write_long(out, at, numbers[row, AMOUNT])
        at = write_text(out, at, buffer, spans[row, CURRENCY, 0], spans[row, CURRENCY, 1])
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
        at = write_shadows(out, at, shadows, shadow_starts, shadow_scores[:, row])
        at = write_long(out, at, source[row, RECEIVED])
        at = write_long(out, at, source[row, COMPUTED])
        at = write_long(out, at, decided)
        ends[row] = at
    return out[:at], ends


@njit(cache=True)
def hash_texts(buffer, spans):
    """Hash `buffer[spans[i, 0]:spans[i, 1]]` of each row: uint64[n]."""
    hashes = np.empty(len(spans), np.uint64)
    for row in range(len(spans)):
        hashes[row] = hash_span(buffer, spans[row, 0], spans[row, 1])
    return hashes


@njit(cache=True)
def gather(buffer, spans):
    """Copy `buffer[spans[i, 0]:spans[i, 1]]` of each row together: (bytes, offsets int32[n+1])."""
    offsets = np.zeros(len(spans) + 1, np.int32)
    for row in range(len(spans)):
        offsets[row + 1] = offsets[row] + np.int32(spans[row, 1] - spans[row, 0])
    out = np.empty(offsets[-1], np.uint8)
    for row in range(len(spans)):
        start, size = spans[row, 0], spans[row, 1] - spans[row, 0]
        out[offsets[row] : offsets[row] + size] = buffer[start : start + size]
    return out, offsets
