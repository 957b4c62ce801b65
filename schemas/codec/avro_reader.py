"""Compiled reading of Avro's primitives from a uint8 array.

Every function takes `position` and `stop`, where the message ends, and returns the next position.
A position of -1 means that the bytes cannot be read here: the message is then given to the
reference codec, which says why.
Source: Apache Avro 1.12 specification, "Binary encoding".
"""

# mypy: disable-error-code="no-untyped-def,assignment"

from __future__ import annotations

import numpy as np
from numba import njit

MISSING = np.uint64(0x7FF8 << 48)
"""The bits of the NaN that stands for null."""
U7, U63, U1 = np.uint64(7), np.uint64(63), np.uint64(1)


@njit(cache=True)
def matches(buffer, position, expected):
    """Whether `buffer`, which must be long enough, holds `expected` at `position`."""
    same = True
    for index in range(len(expected)):
        same &= buffer[position + index] == expected[index]
    return same


@njit(cache=True, inline="always")
def read_long(buffer, position, stop):
    """Read an int, a long or an enum: (int64, next position)."""
    value, shift = np.uint64(0), np.uint64(0)
    while position < stop:
        byte = np.uint64(buffer[position])
        position += 1
        value |= (byte & np.uint64(0x7F)) << shift
        if byte < np.uint64(0x80):
            if shift == U63 and byte > U1:
                return np.int64(0), -1
            return np.int64(value >> U1) ^ -np.int64(value & U1), position
        shift += U7
        if shift > U63:
            break
    return np.int64(0), -1


@njit(cache=True)
def is_utf8(buffer, position, stop):
    """Whether the bytes are UTF-8: no overlong forms, no surrogates, at most U+10FFFF."""
    seen = np.uint8(0)
    for index in range(position, stop):
        seen |= buffer[index]
    if seen < 0x80:
        return True
    while position < stop:
        lead = buffer[position]
        position += 1
        if lead < 0x80:
            continue
        low, high = 0x80, 0xBF
        if 0xC2 <= lead <= 0xDF:
            more = 1
        elif 0xE0 <= lead <= 0xEF:
            more = 2
            if lead == 0xE0:
                low = 0xA0
            elif lead == 0xED:
                high = 0x9F
        elif 0xF0 <= lead <= 0xF4:
            more = 3
            if lead == 0xF0:
                low = 0x90
            elif lead == 0xF4:
                high = 0x8F
        else:
            return False
        if position + more > stop or not low <= buffer[position] <= high:
            return False
        for index in range(position + 1, position + more):
            if not 0x80 <= buffer[index] <= 0xBF:
                return False
        position += more
    return True


@njit(cache=True, inline="always")
def read_text(buffer, position, stop):
    """Find a string: (start, end), end -1 if it is cut short or not UTF-8."""
    size, start = read_long(buffer, position, stop)
    if start < 0 or size < 0 or size > stop - start:
        return 0, -1
    if not is_utf8(buffer, start, start + size):
        return 0, -1
    return start, start + size


@njit(cache=True, inline="always")
def read_branch(buffer, position, stop):
    """Read which branch of a ["null", x] union follows: (0 or 1, next position)."""
    if position >= stop or (buffer[position] != 0 and buffer[position] != 2):
        return 0, -1
    return buffer[position] >> 1, position + 1


@njit(cache=True, inline="always")
def read_optional_double(buffer, position, stop):
    """Read a ["null", "double"]: (its bits as uint64, MISSING for null; next position)."""
    branch, position = read_branch(buffer, position, stop)
    if position < 0 or branch == 0:
        return MISSING, position
    if position + 8 > stop:
        return MISSING, -1
    value = np.uint64(0)
    for index in range(8):
        value |= np.uint64(buffer[position + index]) << np.uint64(8 * index)
    return value, position + 8


@njit(cache=True, inline="always")
def read_block(buffer, position, stop):
    """Read the head of a block of an array or map: (number of items, next position).

    The block of no items ends the array. An item takes at least one byte, so that a damaged count
    is noticed before it is walked.
    """
    count, position = read_long(buffer, position, stop)
    if position >= 0 and count < 0:
        count = -count
        _, position = read_long(buffer, position, stop)
    if position >= 0 and (count < 0 or count > stop - position):
        return np.int64(0), -1
    return count, position


@njit(cache=True)
def skip_texts(buffer, position, stop, each):
    """Skip an array (`each` 1) or map (`each` 2) of strings, checking it; the next position."""
    while True:
        count, position = read_block(buffer, position, stop)
        if position < 0 or count == 0:
            return position
        for _index in range(each * count):
            _, position = read_text(buffer, position, stop)
            if position < 0:
                return -1
