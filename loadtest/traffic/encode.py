"""Tables of transactions to Avro messages, compiled: the load must not be the bottleneck.

Called by feed.py ahead of the send time. schemas.codec.avro is the reference that a test compares
with.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from schemas.codec.avro import header
from schemas.columns import CHANNELS
from schemas.keys import hash_spans

TEXTS: Final = (
    "transaction_id",
    "card_id",
    "customer_id",
    "merchant_id",
    "currency",
    "device_id",
    "ip",
    "ip_country",
    "card_country",
    "merchant_country",
)
MIXER: Final = np.uint64(0x9E3779B97F4A7C15)
NO_MCC: Final = -1


class Encoded(NamedTuple):
    """n transactions ready to send; `identity` (uint64[n]) tells them apart, see `identities`."""

    keys: list[bytes]
    values: list[bytes]
    identity: npt.NDArray[np.uint64]
    time: npt.NDArray[np.int64]

    def cut(self, first: int, last: int) -> Encoded:
        """Return rows first..last-1."""
        return Encoded._make(column[first:last] for column in self)


class _Pool(NamedTuple):
    codes: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    data: npt.NDArray[np.uint8]


def identities(
    transaction: npt.NDArray[np.uint64], card: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    """Combine the hashes of transaction and card: an id is unique only for its card."""
    with np.errstate(over="ignore"):
        return transaction ^ (card * MIXER)


def _pool(table: pa.Table, name: str) -> _Pool:
    if name not in table.column_names:
        empty = np.zeros(2, np.int64)
        return _Pool(np.full(table.num_rows, -1, np.int32), empty, np.zeros(1, np.uint8))
    column: Any = table.column(name)
    if not pa.types.is_dictionary(column.type):
        column = column.cast(pa.string()).dictionary_encode()
    column = column.unify_dictionaries().combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # no rows
        column = column.chunk(0)
    texts = column.dictionary.cast(pa.large_binary())
    _, offsets, data = texts.buffers()
    spans = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    held = np.frombuffer(data, np.uint8) if data is not None and data.size else None
    codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    return _Pool(codes, spans, np.zeros(1, np.uint8) if held is None else held)


def _floats(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    numbers: Any = table.column(name).cast(pa.float64()).fill_null(np.nan)
    return np.asarray(numbers.to_numpy(), np.float64)


def _channels(table: pa.Table) -> npt.NDArray[np.int8]:
    if "channel" not in table.column_names:
        return np.full(table.num_rows, CHANNELS.index("OTHER"), np.int8)
    column: Any = table.column("channel").cast(pa.string()).combine_chunks().dictionary_encode()
    names = column.dictionary.to_pylist()
    other = CHANNELS.index("OTHER")
    codes = np.array([*(CHANNELS.index(n) if n in CHANNELS else other for n in names), other])
    chosen: npt.NDArray[np.int8] = codes.astype(np.int8)[
        column.indices.fill_null(len(names)).to_numpy(zero_copy_only=False)
    ]
    return chosen


def encode_transactions(table: pa.Table) -> Encoded:
    """Encode a table of schemas.mapping's columns; rows keep their order."""
    n = table.num_rows
    if n == 0:
        return Encoded([], [], np.zeros(0, np.uint64), np.zeros(0, np.int64))
    pools = [_pool(table, name) for name in TEXTS]
    mcc: Any = np.full(n, NO_MCC, np.int32)
    if "mcc" in table.column_names:
        mcc = table.column("mcc").cast(pa.int32()).fill_null(NO_MCC).to_numpy()
    time = np.asarray(table.column("event_time").to_numpy(), np.int64)
    head = np.frombuffer(header("Transaction"), np.uint8)
    longest = sum(int(np.diff(pool.offsets).max(initial=0)) + 7 for pool in pools)
    out = np.empty(n * (longest + len(head) + 64), np.uint8)
    ends = np.empty(n, np.int64)
    _write(
        head,
        np.stack([pool.codes for pool in pools]),
        tuple(np.ascontiguousarray(pool.offsets) for pool in pools),
        tuple(np.ascontiguousarray(pool.data) for pool in pools),
        time,
        np.asarray(table.column("amount").to_numpy(), np.int64),
        np.ascontiguousarray(mcc, np.int32),
        _channels(table),
        _floats(table, "latitude").view(np.uint64),
        _floats(table, "longitude").view(np.uint64),
        out,
        ends,
    )
    stops = ends.tolist()
    whole = out[: stops[-1]].tobytes()
    values = [whole[a:b] for a, b in zip([0, *stops[:-1]], stops, strict=True)]
    cards = pools[1]
    texts = _texts(cards)
    keys = [texts[code] for code in cards.codes.tolist()]
    identity = identities(_hashes(pools[0]), _hashes(cards))
    return Encoded(keys, values, identity, time)


def _texts(pool: _Pool) -> dict[int, bytes]:
    whole, spans = pool.data.tobytes(), pool.offsets
    used = np.unique(pool.codes)
    bounds = zip(used.tolist(), spans[used].tolist(), spans[used + 1].tolist(), strict=True)
    return {code: whole[first:last] for code, first, last in bounds}


def _hashes(pool: _Pool) -> npt.NDArray[np.uint64]:
    hashes: npt.NDArray[np.uint64] = hash_spans(pool.data, pool.offsets)[pool.codes]
    return hashes


@njit(cache=True, nogil=True)
def _varint(out, at, number):  # type: ignore[no-untyped-def]
    value = np.uint64((number << 1) ^ (number >> 63))
    while value > np.uint64(127):
        out[at] = np.uint8((value & np.uint64(127)) | np.uint64(128))
        value >>= np.uint64(7)
        at += 1
    out[at] = np.uint8(value)
    return at + 1


@njit(cache=True, nogil=True)
def _span(out, at, offsets, data, code):  # type: ignore[no-untyped-def]
    first, last = offsets[code], offsets[code + 1]
    at = _varint(out, at, np.int64(last - first))
    for index in range(first, last):
        out[at] = data[index]
        at += 1
    return at


@njit(cache=True, nogil=True)
def _optional(out, at, offsets, data, code):  # type: ignore[no-untyped-def]
    if code < 0:
        out[at] = 0
        return at + 1
    out[at] = 2
    return _span(out, at + 1, offsets, data, code)


@njit(cache=True, nogil=True)
def _degrees(out, at, bits):  # type: ignore[no-untyped-def]
    exponent = np.uint64(0x7FF0000000000000)
    if bits & exponent == exponent:  # NaN: missing
        out[at] = 0
        return at + 1
    out[at] = 2
    for byte in range(8):
        out[at + 1 + byte] = np.uint8((bits >> np.uint64(8 * byte)) & np.uint64(255))
    return at + 9


@njit(cache=True, nogil=True)
def _write(head, codes, offsets, data, time, amount, mcc, channel, latitude, longitude, out, ends):  # type: ignore[no-untyped-def]
    at = 0
    for row in range(len(time)):
        for byte in head:
            out[at] = byte
            at += 1
        at = _span(out, at, offsets[0], data[0], codes[0, row])
        at = _varint(out, at, time[row])
        at = _span(out, at, offsets[1], data[1], codes[1, row])
        at = _optional(out, at, offsets[2], data[2], codes[2, row])
        at = _span(out, at, offsets[3], data[3], codes[3, row])
        at = _varint(out, at, amount[row])
        at = _span(out, at, offsets[4], data[4], codes[4, row])
        if mcc[row] < 0:
            out[at] = 0
            at += 1
        else:
            out[at] = 2
            at = _varint(out, at + 1, np.int64(mcc[row]))
        at = _varint(out, at, np.int64(channel[row]))
        for text in range(5, 10):
            at = _optional(out, at, offsets[text], data[text], codes[text, row])
        at = _degrees(out, at, latitude[row])
        at = _degrees(out, at, longitude[row])
        out[at] = 0  # no attributes
        at += 1
        ends[row] = at
