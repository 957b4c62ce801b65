"""Columns of any type to amounts in minor units: int64, what cannot be read null.

Amounts in major units are rounded half to even to the decimal places of their row's currency.
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.mapping.arrays import decoded, floats, is_text, split

Mark = Literal[".", ","]
_PLAIN: Final = r"^-?\d{1,18}(\.\d{1,10})?$"
_WRITTEN: Final = re.compile(r"(?P<sign>-?)(?P<digits>\d[\d.,' \u00a0\u202f]*)(?P<after>-?)")
_AROUND: Final = re.compile(r"^[^\d(.,-]{0,5}|[^\d).,-]{0,5}$")
"""A currency sign or code before or after the number."""
_BLANKS: Final = str.maketrans("", "", "' \u00a0\u202f")
_FURTHEST: Final = 2**62


class Amounts(NamedTuple):
    """`values` (int64[n]) in minor units, null where unreadable; how many were rounded."""

    values: pa.Array
    rounded: int


def amounts(column: Any, spec: dict[str, Any], places: npt.NDArray[np.int64]) -> Amounts:
    """Return the amounts of a column; `places` (int64[n]) are the decimals of each currency.

    Raises:
        ValueError: no value of this column can be an amount.
    """
    column = decoded(column)
    kind = column.type
    shift = places if spec.get("unit", "minor") == "major" else np.zeros(len(column), np.int64)
    if pa.types.is_integer(kind):
        numbers, known = split(column.cast(pa.int64()))
        factor = 10**shift
        known = known & (np.abs(numbers) < _FURTHEST // factor)
        return Amounts(pa.array(numbers * factor, mask=~known), 0)
    if pa.types.is_floating(kind):
        return _of_floats(floats(column), shift)
    if pa.types.is_decimal(kind):
        return _of_decimals(column, shift, np.ones(len(column), np.bool_))
    if is_text(kind):
        return _of_texts(column, spec, shift)
    raise ValueError(f"is of type {kind}, which is not an amount")


def _of_floats(values: npt.NDArray[np.float64], shift: npt.NDArray[np.int64]) -> Amounts:
    exact = values * 10.0**shift
    known = np.isfinite(exact) & (np.abs(exact) < _FURTHEST)
    exact = np.where(known, exact, 0.0)
    whole = np.rint(exact)
    # 12.34 · 100 is 1234.0000000000002: further away than that is a part of a minor unit.
    part = np.abs(exact - whole) > 1e-6 * np.maximum(1.0, np.abs(whole) * 1e-9)
    known &= ~part | (shift > 0)  # minor units are whole
    return Amounts(pa.array(whole.astype(np.int64), mask=~known), int((part & known).sum()))


def _of_decimals(
    column: Any, shift: npt.NDArray[np.int64], given: npt.NDArray[np.bool_]
) -> Amounts:
    wide = column.cast(pa.decimal256(76, column.type.scale))
    values = np.zeros(len(column), np.int64)
    known = given & column.is_valid().to_numpy(zero_copy_only=False)
    rounded = 0
    for places in np.unique(shift).tolist():
        of = shift == places
        part = wide.filter(pa.array(of))
        factor = pa.scalar(Decimal(10**places), pa.decimal256(int(places) + 1, 0))
        exact = pc.multiply(part.cast(pa.decimal256(70, part.type.scale)), factor)
        whole = pc.round(exact, round_mode="half_to_even")
        close = pc.less(pc.abs(whole), pa.scalar(Decimal(_FURTHEST)))
        safe = pc.if_else(pc.fill_null(close, False), whole, None)
        inexact = pc.fill_null(pc.not_equal(exact, whole), False).to_numpy(zero_copy_only=False)
        if places == 0:
            safe = pc.if_else(pa.array(inexact), None, safe)
        else:
            rounded += int((inexact & known[of]).sum())
        known[of] &= safe.is_valid().to_numpy(zero_copy_only=False)
        whole_numbers = safe.fill_null(Decimal(0)).cast(pa.decimal256(76, 0)).cast(pa.int64())
        values[of] = whole_numbers.to_numpy(zero_copy_only=False)
    return Amounts(pa.array(values, mask=~known), rounded)


def _of_texts(column: Any, spec: dict[str, Any], shift: npt.NDArray[np.int64]) -> Amounts:
    trimmed = pc.utf8_trim_whitespace(column)
    plain = pc.fill_null(pc.match_substring_regex(trimmed, _PLAIN), False)
    given = spec.get("decimal")
    mark: Mark | None = given
    if given is None:
        odd = trimmed.filter(pc.invert(plain)).drop_null().unique().to_pylist()
        mark = _mark(odd)
    if mark == ",":  # then 1.000 is a thousand
        plain = pc.and_(plain, pc.invert(pc.match_substring(trimmed, ".").fill_null(False)))
    exact = pc.if_else(plain, trimmed, None).cast(pa.decimal128(38, 10))
    found = _of_decimals(exact, shift, plain.to_numpy(zero_copy_only=False))
    values, known = split(found.values)
    rounded = found.rounded
    for row in np.flatnonzero(~plain.to_numpy(zero_copy_only=False)).tolist():
        written = trimmed[row].as_py()
        number = None if written is None else parse_amount(written, mark)
        if number is None:
            continue
        scaled = number.scaleb(int(shift[row]))
        whole = scaled.to_integral_value(ROUND_HALF_EVEN)
        if abs(whole) >= _FURTHEST or (whole != scaled and shift[row] == 0):
            continue
        rounded += whole != scaled
        values[row], known[row] = int(whole), True
    return Amounts(pa.array(values, mask=~known), rounded)


def _mark(texts: list[str]) -> Mark | None:
    """Return the decimal mark that unusual texts of a column leave no doubt about, if they do."""
    found: set[Mark] = set()
    for text in texts:
        point, comma = text.rfind("."), text.rfind(",")
        if min(point, comma) >= 0:
            found.add("." if point > comma else ",")
        elif (comma >= 0 and text.count(",") == 1 and not re.search(r",\d{3}\b", text)) or (
            point >= 0 and text.count(".") > 1
        ):
            found.add(",")
    return found.pop() if len(found) == 1 else None


def parse_amount(text: str, mark: Mark | None = None) -> Decimal | None:
    """Return the number that people wrote as an amount, or None if it can't be told.

    Currency signs, separators of thousands, brackets and a minus sign behind are understood.
    Without a decimal mark, "1,234" may be either number and is neither.

    >>> parse_amount("$1,234.50"), parse_amount("(12.00)"), parse_amount("1,234")
    (Decimal('1234.50'), Decimal('-12.00'), None)
    >>> parse_amount("1.000,50 €"), parse_amount("1,234", ",")
    (Decimal('1000.50'), Decimal('1.234'))
    """
    bare = text.strip()
    negative = bare.startswith("-")
    bare = bare.removeprefix("-").strip()
    bare = _AROUND.sub("", _AROUND.sub("", bare)).strip()
    if bare.startswith("(") and bare.endswith(")"):
        negative, bare = True, _AROUND.sub("", bare[1:-1]).strip()
    match = _WRITTEN.fullmatch(bare)
    if match is None:
        return None
    negative = negative or bool(match["sign"]) or bool(match["after"])
    digits = match["digits"].translate(_BLANKS)
    if mark is None:
        mark = _mark([digits])
        if mark is None and "," in digits:
            return None if digits.count(",") == 1 else _number(digits, ".", negative)
    return _number(digits, mark or ".", negative)


def _number(digits: str, mark: Mark, negative: bool) -> Decimal | None:
    thousands = "," if mark == "." else "."
    whole, _, part = digits.partition(mark)
    groups = whole.split(thousands)
    if len(groups) > 1 and (not 1 <= len(groups[0]) <= 3 or any(len(g) != 3 for g in groups[1:])):
        return None
    if thousands in part or mark in part:
        return None
    try:
        number = Decimal(f"{''.join(groups)}.{part or '0'}")
    except InvalidOperation:
        return None
    return -number if negative else number
