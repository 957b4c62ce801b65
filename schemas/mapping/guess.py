"""A proposal of a mapping for a table, by the names of its columns and by what they hold."""

from __future__ import annotations

import re
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from schemas.mapping.arrays import is_number, is_text
from schemas.mapping.document import CODES, FIELDS, IDS, NUMBERS
from schemas.mapping.guessed_times import all_digits, joined_time, proposed_time
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
    "kind": ("kind",),
    "channel": ("channel", "entrymode", "usechip"),
    "ip_country": ("ipcountry",),
    "card_country": ("cardcountry", "issuercountry"),
    "merchant_country": ("merchantcountry", "country"),
    "mcc": ("mcc", "merchantcategorycode", "categorycode"),
    "latitude": ("merchlat", "merchantlat", "latitude", "lat"),
    "longitude": ("merchlong", "merchantlong", "longitude", "long", "lon", "lng"),
    "label": ("label", "isfraud", "fraud", "txfraud", "class", "target", "fraudulent"),
}  # fmt: skip
"""Names that columns have, without case and signs, the likeliest first."""
_PEOPLE: Final = frozenset(("user", "user_id", "userid", "client_id", "customer_id", "customer"))
MAX_ENTRIES: Final = 50
_NEGATIVE: Final = r"^\W*-\W*\d|^\W*\(.*\)\W*$|\d\s*-\s*$|\bCR\s*$"
_WORDS: Final = {
    "event_time": ("date", "datetime", "timestamp"),
    "amount": ("amount", "amt", "value"),
    "currency": ("cur", "currency", "ccy"),
    "merchant_id": ("merchant", "payee", "vendor", "supplier"),
    "card_id": ("card",),
    "label": ("fraud",),
}
"""Words of names, for a required field that no name fits; several columns may have them."""
_ENTRIES: Final = {
    "POS": ("swipe", "chip", "contactless", "present", "pos", "nfc"),
    "ECOM": ("online", "ecom", "e-com", "web", "internet"),
    "ATM": ("atm", "cash"),
    "MOTO": ("phone", "moto", "mail"),
}
"""What texts of entry modes have in them."""


def guess(table: pa.Table) -> dict[str, Any]:
    """Return a proposal of a mapping's `fields`, with `?` for what a person has to say.

    Each column serves one field only. Nothing is assumed of a required field that no column fits,
    but that rows can be numbered.
    """
    plain: dict[str, str] = {}
    for name in table.column_names:
        plain.setdefault(re.sub(r"[^a-z0-9]", "", name.lower()), name)
    fields: dict[str, Any] = {}
    taken: set[str] = set()
    joined = joined_time(table, plain)
    if joined is not None:
        taken.update(joined["columns"])
    for field in (*REQUIRED, *(name for name in FIELDS if name not in REQUIRED)):
        if field == "event_time" and joined is not None:
            fields[field] = joined
            continue
        column = _column(field, plain, taken)
        if column is not None:
            taken.add(column)
            fields[field] = _specification(field, column, table)
        elif field in REQUIRED:
            fields[field] = _absent(field)
    return fields


def _column(field: str, plain: dict[str, str], taken: set[str]) -> str | None:
    """Return the column of a field: by its name, or the only one with a word of its name."""
    named = [plain[each] for each in _NAMES[field] if each in plain and plain[each] not in taken]
    if named:
        return named[0]
    words = set(_WORDS.get(field, ()))
    having = [
        name for name in plain.values()
        if name not in taken and words & set(re.findall(r"[a-z]+", name.lower()))
    ]  # fmt: skip
    return having[0] if len(having) == 1 else None


def _absent(field: str) -> Any:
    if field == "transaction_id":
        return {"generate": "row_number", "prefix": "row-"}
    return {"constant": "?"} if field == "currency" else "?"


def _specification(field: str, column: str, table: pa.Table) -> Any:
    values = table.column(column)
    if field == "card_id":
        return _card(column, table)
    if field == "channel":
        return _channel(column, values)
    if field in IDS or field in NUMBERS or field in CODES:
        return column
    if field == "ip":
        return {"column": column, "unit": "integer"} if all_digits(values) else column
    if field == "event_time":
        return proposed_time(column, values)
    if field == "amount":
        unit = "minor" if "cent" in column.lower() else "major"
        back = {"negative": "refund"} if _has_negative(values) else {}
        return {"column": column, "unit": unit, **back}
    return _label(column, values)


def _card(column: str, table: pa.Table) -> Any:
    """Return the columns of a card: its number may count from 0 for each person."""
    person = next((name for name in table.column_names if name.lower() in _PEOPLE), None)
    if person is None or person == column:
        return column
    pairs = table.select([person, column]).group_by([person, column]).aggregate([])
    if pairs.num_rows <= len(pc.unique(table.column(column))):
        return column
    return {"columns": [person, column]}


def _channel(column: str, values: pa.ChunkedArray) -> Any:
    ours = {}
    for text in pc.unique(values).drop_null().to_pylist()[:MAX_ENTRIES]:
        known = [channel for channel, words in _ENTRIES.items()
                 if any(word in str(text).lower() for word in words)]  # fmt: skip
        if len(known) == 1 and str(text).upper() != known[0]:
            ours[str(text)] = known[0]
    return {"column": column, "values": ours} if ours else column


def _has_negative(values: pa.ChunkedArray) -> bool:
    """Whether an amount is below 0, or written so: -3.20, (3.20), 3.20- or 3.20 CR."""
    if not (is_text(values.type) or is_number(values.type)):
        return False
    written = values.cast(pa.string())
    return bool(pc.any(pc.match_substring_regex(written, _NEGATIVE)).as_py())


def _label(column: str, values: pa.ChunkedArray) -> Any:
    if pa.types.is_boolean(values.type):
        return column
    held = [str(each) for each in pc.unique(values).to_pylist() if each not in (None, "")]
    wanted = {"1", "1.0", "yes", "y", "true", "t", "fraud", "fraudulent"}
    fraud = next((each for each in held if each.strip().lower() in wanted), None)
    return {"column": column, "fraud": "?" if fraud is None else fraud.strip(), "delay": "7d"}
