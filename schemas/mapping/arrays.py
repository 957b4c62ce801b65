"""Arrow columns in the form in which the other modules of this package work on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


def combined(column: Any) -> Any:
    """Return a column as one array; one without rows has no chunk to begin with."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    array = column.combine_chunks()
    return pa.array([], column.type) if isinstance(array, pa.ChunkedArray) else array


def decoded(array: Any) -> Any:
    """Return an array without dictionary encoding, bytes and a column without values as texts.

    Raises:
        ValueError: bytes are not UTF-8.
    """
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if pa.types.is_null(array.type):
        return array.cast(pa.string())
    if pa.types.is_fixed_size_binary(array.type):
        array = array.cast(pa.binary())
    if pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type):
        try:
            return array.cast(pa.string())
        except pa.ArrowInvalid as error:
            raise ValueError("holds bytes that are not UTF-8: write the column as text") from error
    return array


def small_integers(array: Any) -> Any:
    """Return whole numbers as int64, null where a number is beyond it."""
    if pa.types.is_uint64(array.type):
        array = pc.if_else(pc.less_equal(array, pa.scalar(2**63 - 1, pa.uint64())), array, None)
    return array.cast(pa.int64())


def is_text(kind: Any) -> bool:
    """Whether an Arrow type is one of texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_number(kind: Any) -> bool:
    """Whether an Arrow type is one of numbers."""
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def split(array: Any) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Return copies of an array's numbers, 0 for a null, and which of them are known."""
    known: npt.NDArray[np.bool_] = array.is_valid().to_numpy(zero_copy_only=False).copy()
    return array.fill_null(0).to_numpy(zero_copy_only=False).copy(), known


def floats(array: Any) -> npt.NDArray[np.float64]:
    """Return an array of numbers as floats, NaN for a null."""
    numbers = array.cast(pa.float64(), safe=False).fill_null(np.nan)
    return np.asarray(numbers.to_numpy(zero_copy_only=False), np.float64)
