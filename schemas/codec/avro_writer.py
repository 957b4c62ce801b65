"""Compiled writing in Avro's encoding: numbers, bytes, and whole feature vectors.

Layouts follow schemas/avro field by field; contract tests compare them with fastavro.
Source: Apache Avro 1.12 specification, "Binary encoding".
"""

# mypy: disable-error-code="no-untyped-def,assignment"

from __future__ import annotations

import numpy as np
from numba import njit

from schemas.codec.transactions_kernel import U7


@njit(cache=True)
def write_long(out, position, value):
    """Write a zig-zag varint; return the next position."""
    left = np.uint64(value << 1) ^ np.uint64(value >> 63)
    while left >= np.uint64(0x80):
        out[position] = np.uint8(left & np.uint64(0x7F)) | np.uint8(0x80)
        left >>= U7
        position += 1
    out[position] = np.uint8(left)
    return position + 1


@njit(cache=True)
def write_bytes(out, position, source, start, stop):
    """Copy `source[start:stop]`; return the next position."""
    for index in range(start, stop):
        out[position + index - start] = source[index]
    return position + stop - start


@njit(cache=True)
def encode_vectors(
    head, fingerprint, partition, offset, received, computed, flags, vectors, bodies, starts
):
    """Write n FeatureVectors: (bytes uint8[size], ends int64[n]).

    `vectors` is uint8[n, 4 · features]; row i carries `bodies[starts[i]:starts[i+1]]`.
    """
    count, width = vectors.shape
    fixed = len(head) + len(fingerprint) + width + 52
    out = np.empty(len(bodies) + count * fixed, np.uint8)
    ends = np.empty(count, np.int64)
    at = 0
    for row in range(count):
        at = write_bytes(out, at, head, 0, len(head))
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
