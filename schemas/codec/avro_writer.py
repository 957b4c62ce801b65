"""Compiled writing of Avro's primitives to a uint8 array, which the caller makes long enough.

Every function writes at `position` and returns the next position.
Source: Apache Avro 1.12 specification, "Binary encoding".
"""

# mypy: disable-error-code="no-untyped-def,assignment"

from __future__ import annotations

import numpy as np
from numba import njit

from schemas.codec.avro_reader import U7


@njit(cache=True)
def write_long(out, position, value):
    """Write an int, a long or an enum: at most 10 bytes."""
    left = np.uint64(value << 1) ^ np.uint64(value >> 63)
    while left >= np.uint64(0x80):
        out[position] = np.uint8(left & np.uint64(0x7F)) | np.uint8(0x80)
        left >>= U7
        position += 1
    out[position] = np.uint8(left)
    return position + 1


@njit(cache=True)
def write_bytes(out, position, source, start, stop):
    """Copy `source[start:stop]` without its length."""
    for index in range(start, stop):
        out[position + index - start] = source[index]
    return position + stop - start


@njit(cache=True)
def write_text(out, position, source, start, stop):
    """Write `source[start:stop]` as a string."""
    return write_bytes(out, write_long(out, position, stop - start), source, start, stop)


@njit(cache=True)
def write_double(out, position, value):
    """Write a double."""
    out[position : position + 8].view(np.float64)[0] = value
    return position + 8


@njit(cache=True)
def write_optional_double(out, position, value):
    """Write a ["null", "double"], NaN as null."""
    if np.isnan(value):
        out[position] = 0
        return position + 1
    out[position] = 2
    return write_double(out, position + 1, value)
