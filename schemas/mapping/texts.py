"""Columns of any type to texts, dictionary-encoded, and to labels."""

from __future__ import annotations

import ipaddress
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.mapping.arrays import combined, floats

MAX_EXACT: Final = 2**53
"""From here on, floating-point numbers no longer tell neighbouring ids apart."""
_BOOLEANS: Final = {"true": True, "false": False}


def texts(table: pa.Table, spec: dict[str, Any]) -> pa.DictionaryArray:
    """Return a field's texts as they are, null where blank or where a number is not a whole one.

    A whole number becomes its decimal text.

    Raises:
        ValueError: a column is of a type that is not a text.
    """
    rows = table.num_rows
    if "constant" in spec:
        encoded = _repeated(spec["constant"], rows)
    elif "generate" in spec:
        encoded = pa.array(np.arange(1, rows + 1)).cast(pa.string()).dictionary_encode()
    elif "columns" in spec:
        parts = [plain(table.column(name)).cast(pa.string()) for name in spec["columns"]]
        encoded = pc.binary_join_element_wise(
            *parts, spec.get("separator", "-")
        ).dictionary_encode()
    else:
        encoded = plain(table.column(spec["column"]))
    codes, values = encoded.indices, encoded.dictionary.cast(pa.string())
    blank = pc.index(values, "").as_py()
    if blank >= 0:  # CSV has no other way to leave a text out
        codes = pc.if_else(pc.equal(codes, blank), None, codes)
    if "prefix" in spec:
        values = pc.binary_join_element_wise(pa.scalar(spec["prefix"]), values, "")
    return pa.DictionaryArray.from_arrays(codes, values)


def plain(column: Any) -> pa.DictionaryArray:
    """Return a column of ids as dictionary-encoded texts.

    Raises:
        ValueError: it is of a type that is not a text.
    """
    column = combined(column)
    kind = column.type
    if pa.types.is_dictionary(kind):
        return pa.DictionaryArray.from_arrays(column.indices, column.dictionary.cast(pa.string()))
    if pa.types.is_integer(kind):
        return _of_integers(column)
    if pa.types.is_floating(kind):
        numbers = floats(column)
        whole = np.isfinite(numbers) & (np.abs(numbers) < MAX_EXACT) & (numbers == np.rint(numbers))
        return _of_integers(pa.array(np.where(whole, numbers, 0).astype(np.int64), mask=~whole))
    if pa.types.is_decimal(kind):
        return pc.replace_substring_regex(
            column.cast(pa.string()), r"\.0*$", ""
        ).dictionary_encode()
    if pa.types.is_nested(kind):
        raise ValueError(f"is of type {kind}, which is not a text")
    return column.cast(pa.string()).dictionary_encode()


def _of_integers(column: Any) -> pa.DictionaryArray:
    """Dictionary-encode whole numbers; those of a narrow range need no hash table."""
    if len(column) and not column.null_count:
        numbers = column.to_numpy(zero_copy_only=False)
        low, high = int(numbers.min()), int(numbers.max())
        if high - low < 2 * len(numbers) and high < MAX_EXACT:
            codes = pa.array((numbers.astype(np.int64) - low).astype(np.int32))
            values = pa.array(np.arange(low, high + 1)).cast(pa.string())
            return pa.DictionaryArray.from_arrays(codes, values)
    encoded = column.dictionary_encode()
    return pa.DictionaryArray.from_arrays(encoded.indices, encoded.dictionary.cast(pa.string()))


def _repeated(text: str, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([text]))


def integer_addresses(column: pa.DictionaryArray) -> pa.DictionaryArray:
    """Return IPv4 addresses that were written as whole numbers in their dotted form.

    A value that is not one stays as it is.
    """

    def dotted(text: str | None) -> str | None:
        if text is None or not text.isdigit() or int(text) >= 2**32:
            return text
        return str(ipaddress.IPv4Address(int(text)))

    values = pa.array([dotted(each) for each in column.dictionary.to_pylist()], pa.string())
    return pa.DictionaryArray.from_arrays(column.indices, values)


def labels(column: Any, spec: dict[str, Any]) -> pa.BooleanArray:
    """Return whether each row is fraud, null where the cell is blank.

    Raises:
        ValueError: `fraud` is a YAML boolean, and the column's texts are not true and false.
    """
    wanted = spec.get("fraud", 1)
    if pa.types.is_boolean(column.type):
        return column if wanted in (1, True, "true", "True") else pc.invert(column)
    if pa.types.is_floating(column.type) and not isinstance(wanted, str):
        return pc.equal(column, float(wanted))
    encoded = plain(column)
    held = {text.strip().lower() for text in encoded.dictionary.to_pylist() if text}
    if isinstance(wanted, bool) and not held <= _BOOLEANS.keys():
        raise ValueError(
            f"YAML reads fraud as a boolean, {wanted}, but the column holds "
            f"{', '.join(sorted(held)[:5])}: put the value in quotes to mean the text"
        )

    def is_fraud(text: str) -> bool:
        if isinstance(wanted, bool):
            return _BOOLEANS[text.strip().lower()] == wanted
        return text.strip() == str(wanted)

    fraud = [is_fraud(text) if text else None for text in encoded.dictionary.to_pylist()]
    return pa.array(fraud or [None], pa.bool_()).take(encoded.indices)
