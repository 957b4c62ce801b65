"""Columns of any type to times: int64 ms since the epoch (UTC), what cannot be read null.

Finer times are cut to whole ms, as those of a message are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import InvalidField
from schemas.mapping.arrays import decoded, floats, is_text, small_integers, split
from schemas.mapping.document import DURATIONS
from schemas.mapping.texts import plain
from schemas.rules.fields import parse_time

_PER_MS: Final = {"us": 1000, "ns": 1_000_000}
_SHORTEST_ISO: Final = len("2024-01-01")
_FURTHEST: Final = 2**62
_NUMBER: Final = r"^\s*-?\d+(\.\d+)?\s*$"
_EPOCH_NUMBER: Final = r"^\s*[-+]?\d+(\.\d+)?([eE][-+]?\d{1,3})?\s*$"
"""Spreadsheets and JSON writers may write a large number as 1.7040672E+12."""
Slow = Callable[[str], int]


def times(column: Any, spec: dict[str, Any]) -> pa.Array:
    """Return the times (int64[n], ms) of a column under a mapping's options.

    Raises:
        ValueError: no value of this column can be a time under these options.
    """
    column = decoded(column)
    kind = column.type
    if pa.types.is_timestamp(kind):
        return _of_timestamps(column, spec)
    if pa.types.is_date(kind):
        return column.cast(pa.timestamp("ms")).cast(pa.int64())
    if pa.types.is_time(kind):
        raise ValueError("is a time of day: join it with the day by columns: [day, time]")
    if "format" in spec and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        column = plain(column).cast(pa.string())  # 20240101 with "%Y%m%d"
    if is_text(column.type):
        return _of_texts(column, spec)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _of_numbers(column, spec)
    raise ValueError(f"is of type {kind}, which is not a time")


def _of_timestamps(column: Any, spec: dict[str, Any]) -> pa.Array:
    per_ms = {"s": 0, "ms": 1, "us": 1000, "ns": 1_000_000}[column.type.unit]
    naive = column.type.tz is None
    numbers, known = split(column.cast(pa.int64()))
    if per_ms == 0:
        known &= np.abs(numbers) < _FURTHEST // 1000
        whole = np.where(known, numbers, 0) * 1000
    else:
        whole = numbers // per_ms
    if naive and spec.get("timezone", "UTC") != "UTC":
        import pandas as pd

        stamps = pd.Series(pd.to_datetime(whole, unit="ms", errors="coerce"))
        return _placed(stamps, known & stamps.notna().to_numpy(), spec)
    return _joined(whole, known)


def _of_numbers(column: Any, spec: dict[str, Any]) -> pa.Array:
    unit, start = spec.get("unit", "ms"), _start(spec)
    if pa.types.is_integer(column.type):
        numbers, known = split(small_integers(column))
        if unit in _PER_MS:
            return _joined(start + numbers // _PER_MS[unit], known)
        known &= np.abs(numbers) < _FURTHEST // DURATIONS[unit]
        return _joined(start + numbers * np.where(known, DURATIONS[unit], 0), known)
    values = floats(column)
    scaled = values / _PER_MS[unit] if unit in _PER_MS else values * DURATIONS[unit]
    known = np.isfinite(scaled) & (np.abs(scaled) < _FURTHEST)
    # 1704067200.123 s are 1704067200122.9999 ms in floating point.
    whole = np.floor(np.round(np.where(known, scaled, 0.0), 3)).astype(np.int64)
    return _joined(start + whole, known)


def _of_texts(column: Any, spec: dict[str, Any]) -> pa.Array:
    if spec.get("unit") is not None:
        return _of_numbers(numbers_of(column, _EPOCH_NUMBER), spec)
    import pandas as pd  # only where there are texts: it takes half a second

    texts = pd.Series(column.to_pandas(), dtype=object).str.strip()
    pattern = spec.get("format")
    if pattern is None:
        digits = texts.str.fullmatch(r"\d{9,}", na=False).to_numpy(bool)
        if digits.any():
            return pc.if_else(
                pa.array(digits),
                _of_numbers(numbers_of(column), spec),
                _of_texts(pc.if_else(pa.array(digits), None, column), spec),
            )
        taken = texts.where(texts.str.len() >= _SHORTEST_ISO)
        found = _instants(taken, "ISO8601", spec)
    else:
        found = _instants(texts, str(pattern), spec)
    values, known = split(found)
    slow: Slow = parse_time if pattern is None else _by_format(str(pattern))
    missed = np.flatnonzero(~known & texts.notna().to_numpy() & (texts != "").to_numpy())
    if "timezone" in spec:  # those are ambiguous or do not exist in that zone
        missed = missed[:0]
    for row in missed.tolist():
        try:
            values[row] = slow(texts.iloc[row])
            known[row] = True
        except (InvalidField, ValueError, OverflowError):
            continue
    return _joined(values, known)


def _instants(texts: Any, pattern: str, spec: dict[str, Any]) -> pa.Array:
    import pandas as pd

    if spec.get("timezone", "UTC") == "UTC":
        found = pd.to_datetime(texts, format=pattern, errors="coerce", utc=True)
        return _milliseconds(found, found.notna().to_numpy())
    stamps = pd.to_datetime(texts, format=pattern, errors="coerce")
    return _placed(stamps, stamps.notna().to_numpy(), spec)


def _placed(stamps: Any, known: Any, spec: dict[str, Any]) -> pa.Array:
    """Return naive times as instants; what the clock skips or shows twice is null."""
    try:
        zone = ZoneInfo(str(spec["timezone"]))
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(
            f"timezone {spec['timezone']!r} is unknown: write Europe/Berlin"
        ) from error
    if stamps.dt.tz is not None:
        return _milliseconds(stamps, known)
    placed = stamps.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    return _milliseconds(placed, known & placed.notna().to_numpy())


def _milliseconds(stamps: Any, known: Any) -> pa.Array:
    instants = stamps.dt.tz_convert("UTC").dt.tz_localize(None)
    nanoseconds = instants.astype("datetime64[ns]").astype(np.int64).to_numpy()
    return _joined(nanoseconds // 1_000_000, known)


def _by_format(pattern: str) -> Slow:
    def read(text: str) -> int:
        moment = datetime.strptime(text, pattern)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return parse_time(aware.isoformat())

    return read


def _start(spec: dict[str, Any]) -> int:
    if "start" not in spec:
        return 0
    try:
        return parse_time(str(spec["start"]), "start")
    except InvalidField as error:
        raise ValueError(str(error)) from error


def remedy(written: str, spec: dict[str, Any]) -> str:
    """Return what to do about a text that is not a time."""
    if "format" in spec or "unit" in spec:
        return "check " + " and ".join(key for key in ("format", "unit", "timezone") if key in spec)
    if "timezone" in spec:
        return "the clock of that zone skips it or shows it twice, or it is not ISO 8601"
    if re.fullmatch(r"\d{1,2}[./-]\d{1,2}[./-]\d{2,4}.*", written):
        return 'write format: "%d/%m/%Y" or "%m/%d/%Y", with the signs between and the time of day'
    if re.fullmatch(r"-?\d+(\.\d+)?([eE][-+]?\d+)?", written):
        return "write unit: s, ms, us or ns since the epoch, or another unit and a start"
    return "send ISO 8601 (2024-02-29 12:00:00), or write a format"


def numbers_of(column: Any, pattern: str = _NUMBER) -> pa.Array:
    """Return texts as float64, null where a text is not a number."""
    given = pc.fill_null(pc.match_substring_regex(column, pattern), False)
    bare = pc.utf8_trim_whitespace(pc.if_else(given, column, None))
    return pc.utf8_ltrim(bare, "+").cast(pa.float64())


def _joined(values: Any, known: Any) -> pa.Array:
    return pa.array(values, pa.int64(), mask=~known)
