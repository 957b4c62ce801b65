"""A proposal of how the times of a table are read: of which columns, in which form."""

from __future__ import annotations

import re
from itertools import product
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

MAX_TEXTS: Final = 10_000
_DAYS: Final = (
    *(f"{day}{year}".replace("-", sign)
      for sign, day, year in product("/.-", ("%d-%m-", "%m-%d-"), ("%Y", "%y"))),
    "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%d%b%Y", "%b %d %Y", "%b %d, %Y", "%d %B %Y", "%Y%m%d",
)  # fmt: skip
_CLOCKS: Final = ("%H:%M", "%H:%M:%S", "%I:%M %p", "%I:%M:%S %p", "%H%M", "%H%M%S")
_STEPS: Final = frozenset(("step",))
_START: Final = "2024-01-01"


def proposed_time(column: str, values: pa.ChunkedArray) -> Any:
    """Return a proposal for a column of times; its form is "?" where days and months may be either.

    Steps and seconds of an unknown beginning count from the start of 2024.
    """
    if pa.types.is_temporal(values.type) or not all_digits(values):
        return _form(column, values)
    largest = pc.max(values.cast(pa.string()).cast(pa.float64())).as_py() or 0
    if re.sub(r"[^a-z]", "", column.lower()) in _STEPS:
        return {"column": column, "unit": "h", "start": _START}
    if pa.types.is_string(values.type) and 1e13 < largest < 3e13:
        return {"column": column, "format": "%Y%m%d%H%M%S"}
    if 19_000_101 <= largest < 21_000_101:
        return {"column": column, "format": "%Y%m%d"}
    for unit, least in (("ns", 1e17), ("us", 1e14), ("ms", 1e11), ("s", 9e8)):
        if largest >= least:
            return {"column": column, "unit": unit}
    if 36_000 <= largest < 75_000:  # the days of a spreadsheet, from 1998 to 2105
        return {"column": column, "unit": "d", "start": "1899-12-30"}
    return {"column": column, "unit": "s", "start": _START}


def joined_time(table: pa.Table, plain: dict[str, str]) -> dict[str, Any] | None:
    """Return a proposal for a time of several columns, if there are those; `plain` has their names.

    It is a year, month and day, or a day, with a time of day.
    """
    clock = next((plain[name] for name in ("time", "timeofday", "hour") if name in plain), None)
    form = None if clock is None else _clock(table.column(clock))
    if clock is None or form is None:
        return None
    parts = [plain[name] for name in ("year", "month", "day") if name in plain]
    if len(parts) == 3:
        return {"columns": [*parts, clock], "format": f"%Y-%m-%d-{form}"}
    day = next((plain[name] for name in ("date", "transdate", "day") if name in plain), None)
    if day is None:
        return None
    days = _form(day, table.column(day))
    if isinstance(days, str):
        return {"columns": [day, clock], "separator": " "}
    both = days["format"] if days["format"] == "?" else f"{days['format']} {form}"
    return {"columns": [day, clock], "separator": " ", "format": both}


def all_digits(values: pa.ChunkedArray) -> bool:
    """Whether every value is a number."""
    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        return True
    if not pa.types.is_string(values.type):
        return False
    given = pc.drop_null(values)
    plain = pc.match_substring_regex(given, r"^-?\d+(\.\d+)?$")
    return len(given) > 0 and bool(pc.all(plain).as_py())


def _form(column: str, values: pa.ChunkedArray) -> Any:
    texts = _distinct(values)
    if not texts or any(re.match(r"\d{4}-", text) for text in texts):
        return column
    clocks = ["", *(f" {clock}" for clock in _CLOCKS)]
    fits = [form for form in map("".join, product(_DAYS, clocks)) if _all_fit(texts, form)]
    if not fits:
        return column
    return {"column": column, "format": fits[0] if len(fits) == 1 else "?"}


def _clock(values: pa.ChunkedArray) -> str | None:
    texts = _distinct(values)
    return next((form for form in _CLOCKS if texts and _all_fit(texts, form)), None)


def _distinct(values: pa.ChunkedArray) -> list[str]:
    if not pa.types.is_string(values.type):
        return []
    held = pc.unique(values).drop_null().slice(0, MAX_TEXTS).to_pylist()
    return [text.strip() for text in held if text.strip()]


def _all_fit(texts: list[str], form: str) -> bool:
    import pandas as pd  # only for a proposal: it takes half a second

    for sample in (texts[:20], texts):
        if pd.to_datetime(pd.Series(sample), format=form, errors="coerce").isna().any():
            return False
    return True
