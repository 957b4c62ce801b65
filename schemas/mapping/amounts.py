"""Columns of any type to amounts in minor units: int64, what cannot be read null.

Amounts in major units are rounded half to even to the decimal places of their row's currency.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.currency import decimals
from schemas.mapping.arrays import decoded, floats, is_text, small_integers, split
from schemas.mapping.written_amounts import (
    Mark,
    OtherCurrencyError,
    decimal_mark,
    parse_amount,
)

_PLAIN: Final = r"^-?\d{1,18}(\.\d{1,10})?$"
_FURTHEST: Final = 2**62
Mask = npt.NDArray[np.bool_]


class Amounts(NamedTuple):
    """`values` (int64[n]) in minor units, null where unreadable.

    `rounded` and `foreign` (bool[n]) are the rows with more decimals than their currency has, and
    those that name another currency.
    """

    values: pa.Array
    rounded: Mask
    foreign: Mask


def amounts(column: Any, spec: dict[str, Any], currency: pa.DictionaryArray) -> Amounts:
    """Return the amounts of a column, each in the currency of its row.

    Raises:
        ValueError: no value of this column can be an amount.
    """
    column = decoded(column)
    kind, rows = column.type, len(column)
    shift, none = np.zeros(rows, np.int64), np.zeros(rows, np.bool_)
    major = spec.get("unit", "minor") == "major"
    if major:
        places = [decimals(code or "") for code in currency.dictionary.to_pylist()] or [0]
        held = currency.indices.fill_null(0).to_numpy(zero_copy_only=False)
        shift = np.array(places, np.int64)[held]
    if pa.types.is_integer(kind):
        numbers, known = split(small_integers(column))
        factor = 10**shift
        known = known & (np.abs(numbers) < _FURTHEST // factor)
        return Amounts(pa.array(numbers * np.where(known, factor, 0), mask=~known), none, none)
    if pa.types.is_floating(kind):
        return _of_floats(floats(column), shift, major=major)
    if pa.types.is_decimal(kind):
        return _of_decimals(column, shift, np.ones(len(column), np.bool_), major=major)
    if is_text(kind):
        return _of_texts(column, spec.get("decimal"), shift, currency, major=major)
    raise ValueError(f"is of type {kind}, which is not an amount")


def _of_floats(
    values: npt.NDArray[np.float64], shift: npt.NDArray[np.int64], *, major: bool
) -> Amounts:
    exact = values * 10.0**shift
    known = np.isfinite(exact) & (np.abs(exact) < _FURTHEST)
    exact = np.where(known, exact, 0.0)
    whole = np.rint(exact)
    # 12.34 · 100 is 1234.0000000000002: further away than that is a part of a minor unit.
    part = np.abs(exact - whole) > 1e-6 * np.maximum(1.0, np.abs(whole) * 1e-9)
    known &= ~part | major  # minor units are whole
    return Amounts(
        pa.array(whole.astype(np.int64), mask=~known), part & known, np.zeros_like(known)
    )


def _of_decimals(column: Any, shift: npt.NDArray[np.int64], given: Mask, *, major: bool) -> Amounts:
    wide = column.cast(pa.decimal256(76, column.type.scale))
    values = np.zeros(len(column), np.int64)
    known = given & column.is_valid().to_numpy(zero_copy_only=False)
    rounded = np.zeros_like(known)
    for places in np.unique(shift).tolist():
        of = shift == places
        part = wide.filter(pa.array(of))
        factor = pa.scalar(Decimal(10**places), pa.decimal256(int(places) + 1, 0))
        exact = pc.multiply(part.cast(pa.decimal256(70, part.type.scale)), factor)
        whole = pc.round(exact, round_mode="half_to_even")
        close = pc.less(pc.abs(whole), pa.scalar(Decimal(_FURTHEST)))
        safe = pc.if_else(pc.fill_null(close, False), whole, None)
        inexact = pc.fill_null(pc.not_equal(exact, whole), False).to_numpy(zero_copy_only=False)
        if not major:
            safe = pc.if_else(pa.array(inexact), None, safe)
        else:
            rounded[of] = inexact & known[of]
        known[of] &= safe.is_valid().to_numpy(zero_copy_only=False)
        whole_numbers = safe.fill_null(Decimal(0)).cast(pa.decimal256(76, 0)).cast(pa.int64())
        values[of] = whole_numbers.to_numpy(zero_copy_only=False)
    return Amounts(pa.array(values, mask=~known), rounded & known, np.zeros_like(known))


def _of_texts(
    column: Any,
    given: Mark | None,
    shift: npt.NDArray[np.int64],
    currency: pa.DictionaryArray,
    *,
    major: bool,
) -> Amounts:
    trimmed = pc.utf8_trim_whitespace(column)
    plain = pc.fill_null(pc.match_substring_regex(trimmed, _PLAIN), False)
    mark = given
    if given is None:
        odd = trimmed.filter(pc.invert(plain)).drop_null().unique().to_pylist()
        mark = decimal_mark(odd)
    if mark == ",":  # then 1.000 is a thousand
        plain = pc.and_(plain, pc.invert(pc.match_substring(trimmed, ".").fill_null(False)))
    exact = pc.if_else(plain, trimmed, None).cast(pa.decimal128(38, 10))
    found = _of_decimals(exact, shift, plain.to_numpy(zero_copy_only=False), major=major)
    values, known = split(found.values)
    rounded, foreign = found.rounded, found.foreign
    for row in np.flatnonzero(~plain.to_numpy(zero_copy_only=False)).tolist():
        written = trimmed[row].as_py()
        if not written:
            continue
        try:
            number = parse_amount(written, mark, currency[row].as_py() or "")
        except OtherCurrencyError:
            foreign[row] = True
            continue
        if number is None:
            continue
        scaled = number.scaleb(int(shift[row]))
        whole = scaled.to_integral_value(ROUND_HALF_EVEN)
        if abs(whole) >= _FURTHEST or (whole != scaled and not major):
            continue
        rounded[row] = whole != scaled
        values[row], known[row] = int(whole), True
    return Amounts(pa.array(values, mask=~known), rounded, foreign)
