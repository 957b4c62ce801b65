"""Transaction messages to columns, a batch at a time.

Clean Avro goes the compiled way; everything else (JSON, Confluent framing, anything suspicious)
goes through `validation`, which repairs it or says what is wrong. A test compares the result with
the reference codec.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from schemas.codec import avro
from schemas.codec import transactions_kernel as kernel
from schemas.codec.byte_spans import Ints, as_array, joined, sliced
from schemas.columns import TransactionColumns, empty_columns
from schemas.currency import CurrencyTable
from schemas.errors import BadMessage, InvalidField, Rejected
from schemas.keys import hash_id, normalise_ip
from schemas.validation import SchemaRegistry, read_transaction

TRANSACTION_HEADER: Final = avro.header("Transaction")


@dataclass(frozen=True, slots=True)
class DecodedTransactions:
    """The good transactions of a batch, g rows, and the messages that were rejected.

    `rows` (int64[g]) are their places in the batch, ascending; `bodies` their Avro bodies, `ids`
    the transaction ids and `cards` the card ids, a card number replaced by its token. `unread`
    counts by field the values that could not be read.
    """

    columns: TransactionColumns
    rows: Ints
    bodies: list[bytes]
    ids: list[bytes]
    cards: list[bytes]
    rejected: list[Rejected]
    unread: Mapping[str, int]


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
    def over(
        cls, messages: Sequence[bytes], now_ms: Ints, currencies: CurrencyTable, *, clean: bool
    ) -> _Pass:
        data, starts = joined(messages)
        count = len(messages)
        spans = np.zeros((count, kernel.SPANS, 2), np.int64)
        numbers = np.zeros((count, len(kernel.NUMBER_FIELDS)), np.int64)
        degrees = np.zeros((count, 2), np.float64)
        columns = empty_columns(count)
        outcome = kernel.decode_rows(
            as_array(data), starts, as_array(TRANSACTION_HEADER), now_ms + kernel.MAX_AHEAD_MS,
            *currencies.packed, clean, spans, numbers, degrees, columns,
        )  # fmt: skip
        special = np.flatnonzero(outcome == kernel.UNUSUAL_IP)
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
    second reading gives the same result. `pan_key` turns card numbers into tokens.
    Blocks only if `registry` has to fetch a schema.
    """
    values = [message or b"" for message in messages]
    moments = np.array(np.broadcast_to(np.asarray(now_ms, np.int64), len(values)))
    first = _Pass.over(values, moments, currencies, clean=False)
    slow = np.flatnonzero(~first.good)
    older = _bring_up_to_date(values, slow)
    if older:
        first = _Pass.over(values, moments, currencies, clean=False)
        for row, message in older.items():
            # The defaults must be read as what they are, and not as the end of bytes too many.
            if first.spans[row, kernel.UNREAD, 0] != first.starts[row + 1] - 1:
                first.good[row], values[row] = False, message
        slow = np.flatnonzero(~first.good)
    if len(slow) == 0:
        return _collect(first, np.arange(len(values)), [], {})
    rejected: list[Rejected] = []
    repaired = {}
    unread: Counter[str] = Counter()
    for row in slow.tolist():
        try:
            record = read_transaction(
                values[row], now_ms=int(moments[row]), currencies=currencies, pan_key=pan_key,
                registry=registry,
            )  # fmt: skip
            repaired[row] = avro.encode("Transaction", record)
            unread.update(record["unread"])
        except BadMessage as error:
            rejected.append((row, error))
    for row, message in repaired.items():
        values[row] = message
    rows = np.array(sorted(set(range(len(values))) - {row for row, _ in rejected}), np.int64)
    accepted = [values[row] for row in rows.tolist()]
    second = _Pass.over(accepted, moments[rows], currencies, clean=True)
    for place in np.flatnonzero(~second.good).tolist():
        row = int(rows[place])
        rejected.append((row, InvalidField("the transaction breaks a rule of schemas/README.md")))
    return _collect(second, rows, sorted(rejected, key=lambda item: item[0]), unread)


def _bring_up_to_date(values: list[bytes], rows: Ints) -> dict[int, bytes]:
    """Replace messages of an older schema by today's where that is cheap; return those by row."""
    older = {}
    for row in rows.tolist():
        newer = avro.brought_up_to_date("Transaction", values[row])
        if newer is not None and len(newer) <= kernel.MAX_MESSAGE:
            older[row], values[row] = values[row], newer
    return older


def _collect(
    result: _Pass, rows: Ints, rejected: list[Rejected], unread: Mapping[str, int]
) -> DecodedTransactions:
    good = np.flatnonzero(result.good)
    whole = len(good) == len(rows)
    return DecodedTransactions(
        columns=result.columns if whole else result.columns.take(good),
        rows=rows[good],
        bodies=sliced(result.data, result.starts[good] + avro.HEADER_SIZE, result.starts[good + 1]),
        ids=result.texts(kernel.TRANSACTION_ID, good),
        cards=result.texts(kernel.CARD, good),
        rejected=rejected,
        unread=unread,
    )
