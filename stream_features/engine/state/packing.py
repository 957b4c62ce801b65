"""Numbers as bytes: columns packed to the width of their largest value.

All integers are little-endian; a width byte of 0 means that all values are zero. Hashes, which
repeat and take all eight bytes, are packed as a dictionary and one-byte codes. Reading takes eight
bytes at once and so does writing, so a buffer needs SLACK bytes behind its last byte.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import types
from numba.extending import intrinsic

from schemas.compiled import compiled, leaf

SLACK: Final = 8
REPEATED: Final = 9
"""The width byte of a column of hashes: a dictionary and codes follow."""
MAX_CODES: Final = 255
TABLE: Final = 512
MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)
SHIFT: Final = np.uint64(55)
"""Fibonacci hashing into a table of 512 (Knuth, The Art of Computer Programming 3, 6.4)."""
_intrinsic: Any = intrinsic


def _address(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Return the address of the eight bytes of a uint8 array at an offset."""
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    place = builder.gep(array.data, [arguments[1]])
    return builder.bitcast(place, context.get_value_type(types.int64).as_pointer())


@_intrinsic
def _load(typing_context, data, at):  # type: ignore[no-untyped-def]
    """Return the int64 whose bytes begin at `at`, at any alignment."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        loaded = builder.load(_address(context, builder, signature, arguments))
        loaded.align = 1
        return loaded

    return types.int64(data, types.int64), generate


@_intrinsic
def _store(typing_context, data, at, number):  # type: ignore[no-untyped-def]
    """Write the eight bytes of an int64 at `at`, at any alignment."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        stored = builder.store(arguments[2], _address(context, builder, signature, arguments))
        stored.align = 1
        return context.get_dummy_value()

    return types.void(data, types.int64, types.int64), generate


@_intrinsic
def bits_of(typing_context, number):  # type: ignore[no-untyped-def]
    """Return the 32 bits of a float64 as a float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        narrow = builder.fptrunc(arguments[0], context.get_value_type(types.float32))
        bits = builder.bitcast(narrow, context.get_value_type(types.int32))
        return builder.zext(bits, context.get_value_type(types.int64))

    return types.int64(types.float64), generate


@_intrinsic
def float_of(typing_context, bits):  # type: ignore[no-untyped-def]
    """Return the float32 of 32 bits as float64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        narrow = builder.trunc(arguments[0], context.get_value_type(types.int32))
        number = builder.bitcast(narrow, context.get_value_type(types.float32))
        return builder.fpext(number, context.get_value_type(types.float64))

    return types.float64(types.int64), generate


@leaf
def put(out, at, number, width):  # type: ignore[no-untyped-def]
    """Write the low `width` (0-8) bytes of a number; what follows them must be written later."""
    _store(out, np.int64(at), np.int64(number))
    return at + width


@leaf
def get(data, at, width):  # type: ignore[no-untyped-def]
    """Return the non-negative number of `width` bytes; any int64 if the width is 8."""
    number = _load(data, np.int64(at))
    return number if width == 8 else number & ((np.int64(1) << (8 * width)) - 1)


@leaf
def width_of(largest):  # type: ignore[no-untyped-def]
    """Return how many bytes a non-negative number takes; 8 for a negative one."""
    if largest < 0:
        return 8
    width = 0
    while largest > 0:
        largest >>= 8
        width += 1
    return width


@compiled
def _put_repeated(out, at, values, n):  # type: ignore[no-untyped-def]
    """Pack values as a dictionary in order of appearance and one-byte codes; code 0 is zero.

    Codes and a hash table of codes stand behind the longest dictionary until its size is known.
    """
    start = at + 1
    codes = start + 8 * n
    table = codes + n
    for place in range(0, TABLE, 8):
        _store(out, np.int64(table + place), np.int64(0))
    size = 0
    for index in range(n):
        value = np.int64(values[index])
        code = 0
        place = int(np.int64((np.uint64(value) * MULTIPLIER) >> SHIFT))
        while value != 0:
            code = int(out[table + place])
            if code == 0:
                _store(out, np.int64(start + 8 * size), value)
                size += 1
                code = size
                out[table + place] = code
                break
            if _load(out, np.int64(start + 8 * (code - 1))) == value:
                break
            place = (place + 1) & (TABLE - 1)
        out[codes + index] = code
    out[at] = size
    at = start + 8 * size
    if size == 0:
        return at
    for index in range(n):
        out[at + index] = out[codes + index]
    return at + n


@compiled
def _get_repeated(data, at, values, n):  # type: ignore[no-untyped-def]
    """Unpack n values that were packed as a dictionary."""
    size = np.int64(data[at])
    start = at + 1
    at = start + 8 * size
    if size == 0:
        for index in range(n):
            values[index] = 0
        return at
    for index in range(n):
        code = np.int64(data[at + index])
        values[index] = _load(data, start + 8 * (code - 1)) if code > 0 else np.int64(0)
    return at + n


@compiled
def put_column(out, at, values, n):  # type: ignore[no-untyped-def]
    """Pack the first n values; return where they end."""
    bits = np.int64(0)
    for index in range(n):
        bits |= values[index]
    width = width_of(bits)
    if width == 8 and n <= MAX_CODES:
        out[at] = REPEATED
        return _put_repeated(out, at + 1, values, n)
    out[at] = width
    at += 1
    if width > 0:
        for index in range(n):
            at = put(out, at, values[index], width)
    return at


@compiled
def get_column(data, at, values, n):  # type: ignore[no-untyped-def]
    """Unpack n values; return where they end."""
    width = np.int64(data[at])
    at += 1
    if width == REPEATED:
        return _get_repeated(data, at, values, n)
    for index in range(n):
        values[index] = get(data, at, width)
        at += width
    return at


@compiled
def put_times(out, at, values, n):  # type: ignore[no-untyped-def]
    """Pack n > 0 ascending times as the first and the step from each to the next."""
    at = put(out, at, values[0], 8)
    widest = np.int64(0)
    for index in range(1, n):
        widest |= values[index] - values[index - 1]
    width = width_of(widest)
    out[at] = width
    at += 1
    for index in range(1, n):
        at = put(out, at, values[index] - values[index - 1], width)
    return at


@compiled
def get_times(data, at, values, n):  # type: ignore[no-untyped-def]
    """Unpack n > 0 ascending times."""
    time = get(data, at, 8)
    width = np.int64(data[at + 8])
    at += 9
    values[0] = time
    for index in range(1, n):
        time += get(data, at, width)
        values[index] = time
        at += width
    return at
