"""Converts tables of transactions to the engine's columns.

The names of the columns are those of `schemas.mapping.mapped`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.columns import (
    CHANNELS,
    KINDS,
    PURCHASE,
    TransactionColumns,
    empty_columns,
    pack_country,
    pack_position,
)
from schemas.errors import ConfigurationError
from schemas.keys import hash_spans, normalise_ip


def hashed_ids(column: Any, *, address: bool = False) -> npt.NDArray[np.uint64]:
    """Return the hashes (uint64[n]) of a column of ids; a missing id is 0."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    values = encoded.dictionary.cast(pa.string())
    if address:
        values = pa.array([_address(text) for text in values.to_pylist()], pa.string())
    binary = values.cast(pa.large_binary())
    if len(binary) == 0:
        return np.zeros(len(encoded), np.uint64)
    _, offsets, data = binary.buffers()
    text = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    spans = np.frombuffer(offsets, np.int64)[binary.offset : binary.offset + len(binary) + 1]
    hashes: npt.NDArray[np.uint64] = _gather(encoded, hash_spans(text, spans))
    return hashes


def _address(text: str) -> str:
    """Return what an IP address is kept under; "" stays, which no row of a dictionary refers to."""
    try:
        return normalise_ip(text) if text else ""
    except ValueError as error:
        raise ConfigurationError(
            f"ip {text!r} is not an IP address: correct it, or leave it blank"
        ) from error


def _gather(encoded: Any, values: npt.NDArray[Any], absent: int = 0) -> npt.NDArray[Any]:
    """Return the value of each row of a dictionary-encoded column, `absent` for a null."""
    codes = encoded.indices
    if not codes.null_count:
        whole: npt.NDArray[Any] = values[codes.to_numpy(zero_copy_only=False)]
        return whole
    missing = codes.is_null().to_numpy(zero_copy_only=False)
    out: npt.NDArray[Any] = values[codes.fill_null(0).to_numpy(zero_copy_only=False)]
    out[missing] = absent
    return out


def _coded(column: Any, code: Callable[[str], int], kind: Any, absent: int = 0) -> npt.NDArray[Any]:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    numbers = [code(text) for text in encoded.dictionary.cast(pa.string()).to_pylist()]
    return _gather(encoded, np.array(numbers or [absent], kind), absent)


def _numbers(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    return np.asarray(
        table.column(name).cast(pa.float64()).fill_null(np.nan).to_numpy(), np.float64
    )


def table_columns(
    table: pa.Table, order: npt.NDArray[np.int64] | None = None
) -> TransactionColumns:
    """Return the engine's columns of a mapped table (see `schemas.mapping.mapped`).

    Amounts are taken from `base_amount`; a table without it has them in the base currency.
    `order` (int64[n]): the rows to take, in this order; None for all as they stand.
    """
    columns = empty_columns(table.num_rows if order is None else len(order))
    names = set(table.column_names)
    amount = "base_amount" if "base_amount" in names else "amount"
    changes: dict[str, Any] = {
        "time": table.column("event_time").to_numpy(),
        "amount": table.column(amount).to_numpy(),
    }
    ids = {"transaction": "transaction_id", "card": "card_id", "merchant": "merchant_id", "device": "device_id"}  # fmt: skip
    for field, name in ids.items():
        if name in names:
            changes[field] = hashed_ids(table.column(name))
    if "ip" in names:
        changes["ip"] = hashed_ids(table.column("ip"), address=True)
    for name in ("card_country", "merchant_country", "ip_country"):
        if name in names:
            changes[name] = _coded(table.column(name), pack_country, np.uint16)
    if "channel" in names:
        changes["channel"] = _coded(
            table.column("channel"),
            lambda text: CHANNELS.index(text if text in CHANNELS else "OTHER"),
            np.int8,
            CHANNELS.index("OTHER"),
        )
    if "kind" in names:
        # A dictionary may hold texts that no row refers to.
        changes["kind"] = _coded(
            table.column("kind"),
            lambda text: KINDS.index(text) if text in KINDS else PURCHASE,
            np.int8,
            PURCHASE,
        )
    if "mcc" in names:
        changes["mcc"] = table.column("mcc").cast(pa.int32()).fill_null(-1).to_numpy()
    if {"latitude", "longitude"} <= names:
        changes["position"] = pack_position(
            _numbers(table, "latitude"), _numbers(table, "longitude")
        )
    if order is not None:
        changes = {name: column[order] for name, column in changes.items()}
    return columns._replace(**changes)
