"""Columns of any type to texts, dictionary-encoded."""

from __future__ import annotations

import ipaddress
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.mapping.arrays import combined, decoded, floats

MAX_EXACT: Final = 2**53
"""From here on, floating-point numbers no longer tell neighbouring ids apart."""
_DOUBTFUL: Final = {
    "were rounded by a spreadsheet, so that ids that differ may be one: export the column as text":
        r"^-?\d(\.\d+)?[eE]\+\d+$",
    'look like a missing value: write file: {missing: ["…"]} with those texts if they are':
        r"^(?i:null|nil|none|nan|n/a|na|#n/a|\\n|-|\?)$",
    "are whole numbers with a decimal point, which messages will not have":
        r"^\d+\.0$",
    "are formulas or marks of a spreadsheet: export the column as text":
        r"^(=|'\d)",
}  # fmt: skip


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
    if "values" in spec:
        ours = [spec["values"].get(each, each) for each in values.to_pylist()]
        values = pa.array(ours, pa.string())
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
    if pa.types.is_dictionary(kind) and not pa.types.is_binary(kind.value_type):
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
    return decoded(column).cast(pa.string()).dictionary_encode()


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


def doubtful_ids(values: Any) -> dict[str, list[str]]:
    """Return what looks wrong about the distinct texts of a column of ids, with those texts."""
    found = {}
    for wrong, pattern in _DOUBTFUL.items():
        some = values.filter(pc.match_substring_regex(values, pattern).fill_null(False))
        if len(some):
            found[wrong] = some.to_pylist()
    return found
