"""A proposal of a mapping for a table, by the names of its columns and by what they hold."""

from __future__ import annotations

import re
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from schemas.mapping.document import CODES, FIELDS, IDS, NUMBERS
from schemas.rules.transaction import REQUIRED

_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "transaction_id": ("transactionid", "txid", "transid", "transnum", "trxid", "paymentid", "id"),
    "card_id": (
        "cardid", "card", "cardtoken", "ccnum", "cardnumber", "account", "accountid", "customerid",
        "customer", "nameorig", "clientid", "userid", "user",
    ),
    "merchant_id": (
        "merchantid", "merchant", "merchantname", "terminalid", "shop", "shopid", "namedest",
        "payee", "beneficiary",
    ),
    "customer_id": ("customerid", "customer", "clientid", "userid", "user"),
    "device_id": ("deviceid", "device", "deviceinfo", "fingerprint"),
    "ip": ("ip", "ipaddress", "clientip", "remoteaddr"),
    "event_time": (
        "eventtime", "timestamp", "datetime", "txdatetime", "transdatetranstime", "time", "date",
        "createdat", "transactiondt", "txtime", "step", "unixtime",
    ),
    "amount": ("amount", "amt", "txamount", "transactionamt", "value", "total", "amountcents"),
    "currency": ("currency", "currencycode", "cur", "ccy"),
    "channel": ("channel", "entrymode", "usechip"),
    "ip_country": ("ipcountry",),
    "card_country": ("cardcountry", "issuercountry"),
    "merchant_country": ("merchantcountry", "country"),
    "mcc": ("mcc", "merchantcategorycode", "categorycode"),
    "latitude": ("latitude", "lat", "merchlat"),
    "longitude": ("longitude", "long", "lon", "lng", "merchlong"),
    "label": ("label", "isfraud", "fraud", "txfraud", "class", "target", "fraudulent"),
}  # fmt: skip
"""Names that columns have, without case and signs, the likeliest first."""
_STEPS: Final = frozenset(("step",))


def guess(table: pa.Table) -> dict[str, Any]:
    """Return a proposal of a mapping's `fields`, with `?` for a required field that has no column.

    Each column serves one field only.
    """
    plain: dict[str, str] = {}
    for name in table.column_names:
        plain.setdefault(re.sub(r"[^a-z0-9]", "", name.lower()), name)
    fields: dict[str, Any] = {}
    taken: set[str] = set()
    for field in (*REQUIRED, *(name for name in FIELDS if name not in REQUIRED)):
        column = next(
            (plain[each] for each in _NAMES[field] if each in plain and plain[each] not in taken),
            None,
        )
        if column is not None:
            taken.add(column)
            fields[field] = _specification(field, column, table.column(column))
        elif field in REQUIRED:
            fields[field] = _absent(field)
    return fields


def _absent(field: str) -> Any:
    if field == "transaction_id":
        return {"generate": "row_number", "prefix": "row-"}
    return {"constant": "EUR"} if field == "currency" else "?"


def _specification(field: str, column: str, values: pa.ChunkedArray) -> Any:
    if field in IDS or field in NUMBERS or field in CODES:
        return column
    if field == "ip":
        return {"column": column, "unit": "integer"} if _digits(values) else column
    if field == "event_time":
        return _time(column, values)
    if field == "amount":
        return {"column": column, "unit": "minor" if "cent" in column.lower() else "major"}
    return _label(column, values)


def _time(column: str, values: pa.ChunkedArray) -> Any:
    if pa.types.is_temporal(values.type) or not _digits(values):
        return column
    largest = pc.max(values.cast(pa.string()).cast(pa.float64())).as_py() or 0
    if re.sub(r"[^a-z]", "", column.lower()) in _STEPS:
        return {"column": column, "unit": "h", "start": "2024-01-01"}
    for unit, least in (("ns", 1e17), ("us", 1e14), ("ms", 1e11), ("s", 9e8)):
        if largest >= least:
            return {"column": column, "unit": unit}
    return {"column": column, "unit": "s", "start": "2024-01-01"}


def _label(column: str, values: pa.ChunkedArray) -> Any:
    if pa.types.is_boolean(values.type):
        return column
    held = [str(each) for each in pc.unique(values).to_pylist() if each not in (None, "")]
    wanted = {"1", "1.0", "yes", "y", "true", "t", "fraud", "fraudulent"}
    fraud = next((each for each in held if each.lower() in wanted), None)
    return {"column": column, "fraud": "?" if fraud is None else fraud, "delay": "7d"}


def _digits(values: pa.ChunkedArray) -> bool:
    """Whether every value is a number."""
    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        return True
    if not pa.types.is_string(values.type):
        return False
    given = pc.drop_null(values)
    plain = pc.match_substring_regex(given, r"^-?\d+(\.\d+)?$")
    return len(given) > 0 and bool(pc.all(plain).as_py())
