"""How one field of a record is read: texts, whole numbers and times, each bad value refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from schemas.card_numbers import masked
from schemas.codec import transactions_kernel as kernel
from schemas.errors import InvalidField

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def refuse(field: str, value: object, wrong: str, remedy: str) -> NoReturn:
    """Raise InvalidField with the value, card numbers in it masked and a long one cut."""
    shown = masked(repr(value))
    shown = shown if len(shown) <= 80 else f"{shown[:60]}… ({len(shown)} characters)"
    raise InvalidField(
        f"{field} = {shown} {wrong}: {remedy}", field=field, value=shown, fault=f"{field} {wrong}"
    )


def text_of(
    record: Mapping[str, Any], field: str, max_length: int, *, required: bool
) -> str | None:
    """Return a text of at most `max_length` characters; None for an empty one if not required."""
    value = record.get(field)
    if value is None or value == "":
        if required:
            refuse(field, value, "is missing", f"send a text of 1 to {max_length} characters")
        return None
    if not isinstance(value, str):
        refuse(field, value, f"is a {type(value).__name__}", "send it as a text")
    if not 1 <= len(value) <= max_length:
        refuse(field, value, f"has {len(value)} characters", f"send 1 to {max_length}")
    return valid_unicode(field, value)


def valid_unicode(field: str, value: str) -> str:
    """Return a text that can be written as UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        refuse(field, value, "has half a surrogate pair", "send valid Unicode")
    return value


def whole_number(record: Mapping[str, Any], field: str, low: int, high: int, unit: str) -> int:
    """Return a whole number from `low` to `high`, also one that was sent as 12.0."""
    value = record.get(field)
    if value is None:
        refuse(field, value, "is missing", f"send {unit}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        refuse(field, value, f"is a {type(value).__name__}", f"send {unit} as a whole number")
    if isinstance(value, float):
        if not math.isfinite(value) or value != int(value):
            refuse(field, value, "is not a whole number", f"send {unit}")
        value = int(value)
    if not low <= value <= high:
        refuse(field, value, "is out of range", f"send {unit} from {low} to {high}")
    return value


def parse_time(value: object, field: str = "event_time") -> int:
    """Return ms since the epoch of ISO 8601 text or epoch ms; a time without a zone is UTC.

    >>> parse_time("2024-02-29T12:00:00+01:00") == parse_time("2024-02-29T11:00:00")
    True

    Raises:
        InvalidField: it is neither.
    """
    if not isinstance(value, str):
        return whole_number(
            {field: value}, field, -(2**62), 2**62, "ms since the epoch or ISO 8601"
        )
    try:
        moment = datetime.fromisoformat(value.strip())
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        passed = aware - _EPOCH
    except (ValueError, OverflowError):
        refuse(field, value, "is not a time", "send ISO 8601 (2024-02-29T12:00:00Z) or epoch ms")
    return (passed.days * 86_400 + passed.seconds) * 1000 + passed.microseconds // 1000


def time_of(record: Mapping[str, Any], field: str, latest: int) -> int:
    """Return a time as ms since the epoch, from the year 2000 to `latest`."""
    value = record.get(field)
    if value is None:
        refuse(field, value, "is missing", "send ms since the epoch or ISO 8601")
    time = parse_time(value, field)
    if time < kernel.EARLIEST_MS:
        refuse(field, value, "is before 2000-01-01", "send ms (not seconds) since the epoch")
    if time > latest:
        refuse(field, value, "is more than 5 min ahead of our clock", "check clock, zone and unit")
    return time


def only_known(record: Mapping[str, Any], allowed: frozenset[str], name: str) -> None:
    """Refuse a record with a field that `name` does not have: it may be a misspelt one."""
    unknown = sorted(str(key) for key in record if key not in allowed)
    if unknown:
        wrong = f"is not a field of {name}"
        remedy = "leave it out or put it into attributes"
        refuse(unknown[0], record.get(unknown[0], ""), wrong, remedy)
