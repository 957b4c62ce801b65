"""Encodes tables of transactions as Avro messages, fast enough never to be the bottleneck.

A test compares the messages with the reference codec.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.codec import transactions_kernel as kernel
from schemas.codec.avro import header
from schemas.codec.byte_spans import as_array, cut_at
from schemas.columns import CHANNELS, KINDS, PURCHASE
from schemas.keys import hash_spans, identities


class Encoded(NamedTuple):
    """n transactions ready to send, with their `identities` and event times (ms UTC)."""

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


def _numbers(table: pa.Table) -> npt.NDArray[np.int64]:
    numbers = np.empty((table.num_rows, len(kernel.NUMBER_FIELDS)), np.int64)
    numbers[:, kernel.TIME] = table.column("event_time").to_numpy()
    numbers[:, kernel.AMOUNT] = table.column("amount").to_numpy()
    numbers[:, kernel.MCC] = kernel.NO_MCC
    if "mcc" in table.column_names:
        numbers[:, kernel.MCC] = table.column("mcc").fill_null(kernel.NO_MCC).to_numpy()
    numbers[:, kernel.CHANNEL] = _codes(table, "channel", CHANNELS, CHANNELS.index("OTHER"))
    numbers[:, kernel.KIND] = _codes(table, "kind", KINDS, PURCHASE)
    return numbers


def _degrees(table: pa.Table) -> npt.NDArray[np.float64]:
    degrees = np.full((table.num_rows, 2), np.nan)
    for axis, name in enumerate(("latitude", "longitude")):
        if name in table.column_names:
            column: Any = table.column(name).cast(pa.float64()).fill_null(np.nan)
            degrees[:, axis] = column.to_numpy()
    return degrees


def _codes(
    table: pa.Table, name: str, symbols: tuple[str, ...], otherwise: int
) -> npt.NDArray[np.int8]:
    """Return the place of each row's text among `symbols`."""
    if name not in table.column_names:
        return np.full(table.num_rows, otherwise, np.int8)
    column: Any = table.column(name).cast(pa.string()).combine_chunks().dictionary_encode()
    names = column.dictionary.to_pylist()
    places = [symbols.index(each) if each in symbols else otherwise for each in names]
    codes = np.array([*places, otherwise])
    chosen: npt.NDArray[np.int8] = codes.astype(np.int8)[
        column.indices.fill_null(len(names)).to_numpy(zero_copy_only=False)
    ]
    return chosen


def encode_transactions(table: pa.Table) -> Encoded:
    """Encode a table with the columns of `schemas.mapping`; the rows keep their order."""
    n = table.num_rows
    if n == 0:
        return Encoded([], [], np.zeros(0, np.uint64), np.zeros(0, np.int64))
    pools = [_pool(table, name) for name in kernel.TEXT_FIELDS]
    head = as_array(header("Transaction"))
    longest = sum(int(np.diff(pool.offsets).max(initial=0)) + 7 for pool in pools)
    out = np.empty(n * (longest + len(head) + 64), np.uint8)
    ends = np.empty(n, np.int64)
    kernel.write_transactions(head, *_one_pool(pools), _numbers(table), _degrees(table), out, ends)
    cards = pools[kernel.CARD]
    texts = _texts(cards)
    keys = [texts[code] for code in cards.codes.tolist()]
    identity = identities(_hashes(pools[kernel.TRANSACTION_ID]), _hashes(cards))
    time = np.asarray(table.column("event_time").to_numpy(), np.int64)
    return Encoded(keys, cut_at(out[: ends[-1]], ends), identity, time)


def _one_pool(
    pools: list[_Pool],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Return the texts of all pools, their bounds, and the codes by field, as the kernel needs."""
    shift, at = 0, 0
    bounds, codes = [], []
    for pool in pools:
        bounds.append(pool.offsets + at)
        codes.append(np.where(pool.codes < 0, -1, pool.codes + shift))
        shift += len(pool.offsets)
        at += len(pool.data)
    data = np.concatenate([pool.data for pool in pools])
    return data, np.concatenate(bounds), np.array(codes, np.int32)


def _texts(pool: _Pool) -> dict[int, bytes]:
    whole, spans = pool.data.tobytes(), pool.offsets
    used = np.unique(pool.codes)
    bounds = zip(used.tolist(), spans[used].tolist(), spans[used + 1].tolist(), strict=True)
    return {code: whole[first:last] for code, first, last in bounds}


def _hashes(pool: _Pool) -> npt.NDArray[np.uint64]:
    hashes: npt.NDArray[np.uint64] = hash_spans(pool.data, pool.offsets)[pool.codes]
    return hashes
