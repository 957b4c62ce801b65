"""Compiled reading and writing of FeatureVectors."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from schemas.codec.avro_reader import matches, read_long
from schemas.codec.avro_writer import write_bytes, write_long
from schemas.codec.transactions_kernel import read_transaction

SOURCE_FIELDS: Final = (
    "source_partition", "source_offset", "received_at", "computed_at", "vector_start",
    "vector_bytes", "body_start", "body_stop",
)  # fmt: skip
PARTITION, OFFSET, RECEIVED, COMPUTED, VECTOR_START, VECTOR_BYTES, BODY_START, BODY_STOP = range(8)


@njit(cache=True)
def decode_vectors(
    buffer, starts, header, fingerprint, matrix, source, flags, known, spans, numbers, degrees
):
    """Decode n FeatureVector messages; return uint8[n], 1 where the row could be read.

    `source` (int64[n, 8]) holds SOURCE_FIELDS; `matrix` is uint8[n, 4 · features], filled where
    fingerprint and size are ours (`known`). The last three are as `read_transaction` fills them,
    also of a transaction that names fields as unread.
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
        source[row, VECTOR_START], source[row, VECTOR_BYTES] = position, size
        known[row] = ours and size == width
        if known[row]:
            matrix[row] = buffer[position : position + size]
        source[row, BODY_START], source[row, BODY_STOP] = position + size, stop
        end = read_transaction(buffer, position + size, stop, row, spans, numbers, bits)
        readable[row] = end == stop
    return readable


@njit(cache=True)
def encode_vectors(
    header, fingerprint, partition, offset, received, computed, flags, vectors, bodies, starts
):
    """Write n FeatureVectors: (bytes uint8[size], ends int64[n]).

    `vectors` is uint8[n, 4 · features]; row i carries `bodies[starts[i]:starts[i+1]]`.
    """
    count, width = vectors.shape
    fixed = len(header) + len(fingerprint) + width + 52
    out = np.empty(len(bodies) + count * fixed, np.uint8)
    ends = np.empty(count, np.int64)
    at = 0
    for row in range(count):
        at = write_bytes(out, at, header, 0, len(header))
        at = write_long(out, at, partition[row])
        at = write_long(out, at, offset[row])
        at = write_long(out, at, received[row])
        at = write_long(out, at, computed)
        out[at] = flags[row] & 1
        out[at + 1] = (flags[row] >> 1) & 1
        at = write_bytes(out, at + 2, fingerprint, 0, len(fingerprint))
        at = write_long(out, at, width)
        out[at : at + width] = vectors[row]
        at += width
        size = starts[row + 1] - starts[row]
        out[at : at + size] = bodies[starts[row] : starts[row + 1]]
        at += size
        ends[row] = at
    return out[:at], ends
