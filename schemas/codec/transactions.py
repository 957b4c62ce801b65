"""Batch decoder and encoder of the hot path: lists of Kafka messages to columns and back.

The stream processor and the scorer call it once a batch. Clean Avro goes the compiled way
(`batch_kernel`, `writing_kernel`); everything else (JSON, Confluent framing, anything suspicious)
goes through `validation`, which repairs it or says what is wrong. Equal to `schemas.codec.avro` by
test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from schemas.codec import avro
from schemas.codec import transactions_kernel as kernel
from schemas.codec.avro_writer import encode_vectors
from schemas.columns import TransactionColumns, empty_columns
from schemas.currency import CurrencyTable
from schemas.errors import BadMessage, InvalidField
from schemas.features import FINGERPRINT, VECTOR_SIZE
from schemas.keys import hash_id, normalise_ip
from schemas.validation import SchemaRegistry, read_transaction

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Rejected = tuple[int, BadMessage]
TRANSACTION_HEADER: Final = avro.header("Transaction")
VECTOR_HEADER: Final = avro.header("FeatureVector")


@dataclass(frozen=True, slots=True)
class DecodedTransactions:
    """The good transactions of a batch, g rows, and what was refused.

    `rows` (int64[g]) are their places in the batch, ascending; `bodies` their Avro bodies, `ids`
    the transaction ids and `cards` the card ids, a card number replaced by its token.
    """

    columns: TransactionColumns
    rows: Ints
    bodies: list[bytes]
    ids: list[bytes]
    cards: list[bytes]
    rejected: list[Rejected]


def as_array(data: bytes | bytearray) -> Bytes:
    """Return the bytes as uint8 without copying."""
    return np.frombuffer(data, np.uint8)


def joined(parts: Sequence[bytes]) -> tuple[bytes, Ints]:
    """Return the parts in one piece and the n + 1 places where they start."""
    starts = np.zeros(len(parts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)), out=starts[1:])
    return b"".join(parts), starts


def sliced(data: bytes, starts: Ints, ends: Ints) -> list[bytes]:
    """Return `data[start:end]` of each pair."""
    return list(map(data.__getitem__, map(slice, starts.tolist(), ends.tolist())))


@lru_cache(maxsize=65_536)
def _address_hash(text: bytes) -> int:
    try:
        return hash_id(normalise_ip(text.decode()))
    except ValueError:
        return 0


@dataclass(slots=True)
class _Pass:
    """One run of the kernel over clean or suspicious messages."""

    data: bytes
    starts: Ints
    spans: Ints
    columns: TransactionColumns
    good: npt.NDArray[np.bool_]

    @classmethod
    def over(cls, messages: Sequence[bytes], now_ms: Ints, currencies: CurrencyTable) -> _Pass:
        data, starts = joined(messages)
        count = len(messages)
        spans = np.zeros((count, len(kernel.TEXT_FIELDS), 2), np.int64)
        numbers = np.zeros((count, 4), np.int64)
        degrees = np.zeros((count, 2), np.float64)
        columns = empty_columns(count)
        outcome = kernel.decode_rows(
            as_array(data), starts, as_array(TRANSACTION_HEADER), now_ms + kernel.MAX_AHEAD,
            *currencies.packed, spans, numbers, degrees, columns,
        )  # fmt: skip
        special = np.flatnonzero(outcome == kernel.ADDRESS)
        if len(special):
            texts = sliced(data, spans[special, kernel.IP, 0], spans[special, kernel.IP, 1])
            columns.ip[special] = np.fromiter(map(_address_hash, texts), np.uint64, len(texts))
            outcome[special[columns.ip[special] == 0]] = kernel.SLOW
        return cls(data, starts, spans, columns, outcome != kernel.SLOW)

    def texts(self, field: int, rows: Ints) -> list[bytes]:
        return sliced(self.data, self.spans[rows, field, 0], self.spans[rows, field, 1])


def decode_transactions(
    messages: Sequence[bytes | None],
    *,
    now_ms: int | Ints,
    currencies: CurrencyTable,
    pan_key: bytes | None = None,
    registry: SchemaRegistry | None = None,
) -> DecodedTransactions:
    """Decode, check and convert a batch of `transactions` messages. Never raises for a message.

    `now_ms` bounds event times: one moment, or int64[n], when each message arrived, so that a
    second reading judges alike. `pan_key` turns card numbers into tokens.
    Blocks only if `registry` has to fetch a schema.
    """
    values = [message or b"" for message in messages]
    moments = np.array(np.broadcast_to(np.asarray(now_ms, np.int64), len(values)))
    first = _Pass.over(values, moments, currencies)
    slow = np.flatnonzero(~first.good)
    if len(slow) == 0:
        return _collect(first, np.arange(len(values)), [])
    rejected: list[Rejected] = []
    repaired = {}
    for row in slow.tolist():
        try:
            record = read_transaction(
                values[row], now_ms=int(moments[row]), currencies=currencies, pan_key=pan_key,
                registry=registry,
            )  # fmt: skip
            repaired[row] = avro.encode("Transaction", record)
        except BadMessage as error:
            rejected.append((row, error))
    for row, message in repaired.items():
        values[row] = message
    rows = np.array(sorted(set(range(len(values))) - {row for row, _ in rejected}), np.int64)
    second = _Pass.over([values[row] for row in rows.tolist()], moments[rows], currencies)
    for place in np.flatnonzero(~second.good).tolist():
        row = int(rows[place])
        rejected.append((row, InvalidField("the transaction breaks a rule of schemas/README.md")))
    return _collect(second, rows, sorted(rejected, key=lambda item: item[0]))


def _collect(result: _Pass, rows: Ints, rejected: list[Rejected]) -> DecodedTransactions:
    good = np.flatnonzero(result.good)
    whole = len(good) == len(rows)
    return DecodedTransactions(
        columns=result.columns if whole else result.columns.take(good),
        rows=rows[good],
        bodies=sliced(result.data, result.starts[good] + avro.HEADER_SIZE, result.starts[good + 1]),
        ids=result.texts(kernel.TRANSACTION_ID, good),
        cards=result.texts(kernel.CARD, good),
        rejected=rejected,
    )


def encode_feature_vectors(
    *,
    source_partition: npt.ArrayLike,
    source_offset: npt.ArrayLike,
    received_at: npt.ArrayLike,
    computed_at: int,
    flags: npt.NDArray[np.uint8],
    vectors: npt.NDArray[np.float32],
    bodies: Sequence[bytes],
) -> list[bytes]:
    """Return n FeatureVector messages, equal to `codec.encode("FeatureVector", …)`.

    Shapes (n,), vectors (n, 70); `received_at` in ms, `computed_at` in µs; `flags` bit 0 is
    duplicate, bit 1 late; `bodies` are Avro bodies of the transactions.

    Raises:
        ValueError: the shapes do not agree.
    """
    count = len(bodies)
    little = np.ascontiguousarray(vectors, "<f4")
    columns: list[Ints] = [
        np.asarray(c, np.int64) for c in (source_partition, source_offset, received_at)
    ]
    if little.shape != (count, VECTOR_SIZE) or any(
        shape != (count,) for shape in [flags.shape, *(c.shape for c in columns)]
    ):
        raise ValueError(
            f"{count} bodies, vectors {little.shape}, columns {[c.shape for c in columns]}, "
            f"flags {flags.shape}: expected ({count}, {VECTOR_SIZE}) and ({count},)"
        )
    data, starts = joined(bodies)
    out, ends = encode_vectors(
        as_array(VECTOR_HEADER), as_array(FINGERPRINT), columns[0], columns[1], columns[2],
        int(computed_at), flags, little.view(np.uint8), as_array(data), starts,
    )  # fmt: skip
    return sliced(out.tobytes(), np.concatenate([[0], ends[:-1]]) if count else ends, ends)
