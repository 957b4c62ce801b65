"""Quantities as a person says them: lengths of time, percentages, numbers and counted things. Pure.

Every text that people read, such as the reasons of a decision and the pages of the dashboard, takes
its figures from here, so that the same value reads the same everywhere.
"""

from __future__ import annotations

from typing import Final

SECOND_MS: Final = 1_000
_UNITS: Final = ((86_400, "day"), (3_600, "h"), (60, "min"))
_FINER: Final = {"day": (3_600, "h"), "h": (60, "min"), "min": (1, "s")}
_COARSE: Final = 10
"""From ten of a unit on, the next finer unit adds nothing."""
_LEAST: Final = 0.005
"""A smaller number would be shown as 0.00."""


def duration(ms: float) -> str:
    """Return a length of time in the units that a person uses; negative ones count as none.

    Times of a second and more are rounded to whole seconds first, since float32 features are off by
    less than that.

    >>> duration(0.4), duration(45_000), duration(1_680_000), duration(3_900_000)
    ('0.4 ms', '45 s', '28 min', '1 h 5 min')
    >>> duration(93_600_000), duration(3 * 86_400_000)
    ('1 day 2 h', '3 days')
    """
    if ms <= 0:
        return "0 s"
    if ms < 0.05:
        return "less than 0.1 ms"
    if ms < SECOND_MS - 0.5:
        return f"{ms:.1f} ms" if ms < 9.95 else f"{ms:.0f} ms"
    if ms < 9.95 * SECOND_MS:
        return f"{ms / SECOND_MS:.1f}".removesuffix(".0") + " s"
    seconds = round(ms / SECOND_MS)
    for size, unit in _UNITS:
        if seconds >= size:
            return _in_two(seconds, size, unit)
    return f"{seconds} s"


def _in_two(seconds: int, size: int, unit: str) -> str:
    """Return `seconds` in `unit` and, while that says something, in the next finer unit."""
    whole, rest = divmod(seconds, size)
    text = f"{whole:,} {'days' if unit == 'day' and whole > 1 else unit}"
    finer_size, finer_unit = _FINER[unit]
    finer = rest // finer_size
    return f"{text} {finer} {finer_unit}" if finer and whole < _COARSE else text


def per_cent(share: float) -> str:
    """Return a share of one in per cent.

    >>> per_cent(0.25), per_cent(0.0004), per_cent(0.0)
    ('25.0%', 'less than 0.1%', '0.0%')
    """
    return "less than 0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def number(value: float) -> str:
    """Return a number with as many digits as mean something, and never with an exponent.

    >>> number(1234.5), number(3.14159), number(2.0), number(0.25), number(0.001)
    ('1,234', '3.1', '2', '0.25', 'less than 0.01')
    """
    size = abs(value)
    if 0 < size < _LEAST:
        return "less than 0.01" if value > 0 else "just below 0"
    if size >= 99.95:
        return f"{value:,.0f}"
    text = f"{value:.1f}" if size >= 0.995 else f"{value:.2f}"
    return text.rstrip("0").rstrip(".")


def counted(count: float, one: str, many: str) -> str:
    """Return a number of things with their name.

    >>> counted(1, "card", "cards"), counted(1_200, "card", "cards"), counted(0, "card", "cards")
    ('1 card', '1,200 cards', '0 cards')
    """
    shown = f"{count:,.0f}"
    return f"{shown} {one if shown == '1' else many}"
