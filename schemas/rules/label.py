"""What a Label may be: when it counts, who says so, and of which transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from schemas.codec import transactions_kernel as kernel
from schemas.features import DAY
from schemas.records import Label
from schemas.rules.fields import only_known, refuse, time_of
from schemas.rules.transaction import card_of, id_of

_FIELDS: Final = frozenset(Label.__annotations__)
MAX_LABEL_AHEAD_MS: Final = 366 * DAY
"""How far ahead of its time a label may be sent."""
_SOURCES: Final = ("CHARGEBACK", "ANALYST", "CUSTOMER", "SIMULATION", "OTHER")


def validate_label(
    record: Mapping[str, Any], *, now_ms: int, pan_key: bytes | None = None
) -> Label:
    """Return the record as a clean Label; the card id is treated as in a transaction.

    Raises:
        InvalidField: names field, value and remedy.
    """
    only_known(record, _FIELDS, "Label")
    verdict, source = record.get("label"), record.get("source") or "OTHER"
    if verdict not in ("FRAUD", "GENUINE"):
        refuse("label", verdict, "is unknown", "send FRAUD or GENUINE")
    if source not in _SOURCES:
        refuse("source", source, "is unknown", f"send one of {', '.join(_SOURCES)}")
    transaction_time = time_of(record, "transaction_time", now_ms + kernel.MAX_AHEAD_MS)
    return {
        "transaction_id": id_of(record, "transaction_id"),
        "card_id": card_of(record, pan_key),
        "label": verdict,
        "source": cast(Any, source),
        "transaction_time": transaction_time,
        "label_time": _label_time(record, transaction_time, now_ms),
    }


def _label_time(record: Mapping[str, Any], transaction_time: int, now_ms: int) -> int:
    time = time_of(record, "label_time", 2**62)
    check_label_time(time, transaction_time, now_ms, record["label_time"])
    return time


def check_label_time(time: int, transaction_time: int, now_ms: int, sent: object) -> None:
    """Refuse the time (ms) at which a label, `sent` so, becomes known; it may be ahead of now.

    The newest label of a transaction counts: one of the year 57000, of µs taken for ms, would
    stand for ever.

    Raises:
        InvalidField: it cannot be.
    """
    if time > now_ms + MAX_LABEL_AHEAD_MS:
        refuse("label_time", sent, "is more than a year ahead", "send ms since the epoch")
    if time < transaction_time - kernel.MAX_AHEAD_MS:
        refuse("label_time", sent, "is before transaction_time", "check clock, zone and unit")
