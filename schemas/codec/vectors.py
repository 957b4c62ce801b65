"""FeatureVector messages to columns and back, a batch at a time.

A test compares both ways with the reference codec. A message that the compiled reader refuses is
read by the reference codec, which says what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from schemas.codec import avro, transactions_kernel
from schemas.codec import vectors_kernel as kernel
from schemas.codec.byte_spans import (
    Ints,
    as_array,
    cut_at,
    gather,
    hash_texts,
    joined,
    sliced,
)
from schemas.columns import REFUND, REVERSAL
from schemas.errors import BadMessage, Rejected, UnknownSchema
from schemas.features import FINGERPRINT, VECTOR_SIZE
from schemas.records import Transaction

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint8]
VECTOR_HEADER: Final = avro.header("FeatureVector")
_TEXT: Final = {name: place for place, name in enumerate(transactions_kernel.TEXT_FIELDS)}


@dataclass(frozen=True, slots=True)
class DecodedVectors:
    """The readable vectors of a batch, g rows, and the messages that were rejected.

    `rows` are their places in the batch, ascending. `matrix` (float32[g, 70]) is NaN where the
    vector was computed with another catalogue (`known` False). `flags`: bit 0 duplicate, bit 1
    late.
    """

    data: bytes
    rows: Ints
    rejected: list[Rejected]
    matrix: npt.NDArray[np.float32]
    known: npt.NDArray[np.bool_]
    flags: Codes
    source: Ints
    spans: Ints
    numbers: Ints
    degrees: Floats

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    @property
    def source_partition(self) -> Ints:
        """Partition of `transactions`."""
        return self.source[:, kernel.PARTITION]

    @property
    def source_offset(self) -> Ints:
        """Offset in that partition."""
        return self.source[:, kernel.OFFSET]

    @property
    def received_at(self) -> Ints:
        """Kafka timestamp of the transaction, ms."""
        return self.source[:, kernel.RECEIVED]

    @property
    def computed_at(self) -> Ints:
        """When the vector was computed, µs."""
        return self.source[:, kernel.COMPUTED]

    @property
    def event_time(self) -> Ints:
        """Event time, ms."""
        return self.numbers[:, transactions_kernel.TIME]

    @property
    def amount(self) -> Ints:
        """Minor units of the transaction's own currency."""
        return self.numbers[:, transactions_kernel.AMOUNT]

    @property
    def mcc(self) -> Ints:
        """Merchant category, -1 if missing."""
        return self.numbers[:, transactions_kernel.MCC]

    @property
    def channel(self) -> Ints:
        """Position in `schemas.columns.CHANNELS`."""
        return self.numbers[:, transactions_kernel.CHANNEL]

    @property
    def kind(self) -> Ints:
        """Position in `schemas.columns.KINDS`."""
        return self.numbers[:, transactions_kernel.KIND]

    @property
    def given_back(self) -> npt.NDArray[np.bool_]:
        """Whether each transaction is a refund or reversal."""
        return np.isin(self.kind, (REFUND, REVERSAL))

    @property
    def latitude(self) -> Floats:
        """Degrees, NaN if missing."""
        return self.degrees[:, 0]

    @property
    def longitude(self) -> Floats:
        """Degrees, NaN if missing."""
        return self.degrees[:, 1]

    @property
    def card_hash(self) -> npt.NDArray[np.uint64]:
        """Hash of the card id."""
        return self._hash("card_id")

    @property
    def transaction_hash(self) -> npt.NDArray[np.uint64]:
        """Hash of the transaction id."""
        return self._hash("transaction_id")

    def _hash(self, field: str) -> npt.NDArray[np.uint64]:
        spans = self.spans[:, _TEXT[field]]
        hashes: npt.NDArray[np.uint64] = hash_texts(
            as_array(self.data), np.ascontiguousarray(spans)
        )
        return hashes

    @property
    def vector_spans(self) -> Ints:
        """Start and end of each vector in `data`, int64[g, 2], whatever its catalogue."""
        starts = self.source[:, kernel.VECTOR_START]
        return np.column_stack([starts, starts + self.source[:, kernel.VECTOR_BYTES]])

    @property
    def fingerprint_spans(self) -> Ints:
        """Start and end of each catalogue fingerprint in `data`, int64[g, 2]."""
        # The vector's size lies between the two, as a varint: one bit of sign, then 7 bits a byte.
        bytes_of_size = (
            np.searchsorted(1 << np.arange(6, 63, 7), self.source[:, kernel.VECTOR_BYTES], "right")
            + 1
        )
        ends = self.source[:, kernel.VECTOR_START] - bytes_of_size
        return np.column_stack([ends - len(FINGERPRINT), ends])

    def text_spans(self, field: str) -> Ints:
        """Start and end of a text field in `data`, int64[g, 2]; an empty span is missing."""
        return self.spans[:, _TEXT[field]]

    def gathered(self, spans: Ints) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """Return the bytes of `spans` (int64[g, 2]) in one piece and their g + 1 offsets.

        The pair is what an Arrow string or binary array is made of; at most 2 GiB.
        """
        data, offsets = gather(as_array(self.data), np.ascontiguousarray(spans))
        return data, offsets

    def raw(self, field: str) -> list[bytes]:
        """Return a text field of every row as UTF-8, empty if missing."""
        spans = self.spans[:, _TEXT[field]]
        return sliced(self.data, spans[:, 0], spans[:, 1])

    def keys(self) -> list[bytes]:
        """Return the card ids: the Kafka keys of the decisions."""
        return self.raw("card_id")

    def texts(self, field: str) -> list[str | None]:
        """Return a text field of every row, None if missing."""
        return [value.decode() if value else None for value in self.raw(field)]

    def strings(self, field: str) -> npt.NDArray[np.str_]:
        """Return a text field of every row, "" if missing."""
        return np.array([value.decode() for value in self.raw(field)], np.str_)

    def rows_with(self, field: str, values: Collection[bytes]) -> list[int]:
        """Return the rows, ascending, whose text field (UTF-8) is one of `values`."""
        return [row for row, text in enumerate(self.raw(field)) if text in values]

    def transaction(self, row: int) -> Transaction:
        """Return the whole transaction of a row by the reference codec (slow)."""
        start, stop = self.source[row, [kernel.BODY_START, kernel.BODY_STOP]].tolist()
        body = avro.header("Transaction") + self.data[start:stop]
        record: Transaction = avro.decode(body)[1]  # type: ignore[assignment]
        return record

    def take(self, index: npt.NDArray[np.int64]) -> DecodedVectors:
        """Return the rows `index`, in that order; `rejected` stays."""
        return DecodedVectors(
            self.data, self.rows[index], self.rejected, self.matrix[index], self.known[index],
            self.flags[index], self.source[index], self.spans[index], self.numbers[index],
            self.degrees[index],
        )  # fmt: skip


def decode_feature_vectors(messages: Sequence[bytes | None]) -> DecodedVectors:
    """Decode a batch of `features` messages. Never raises for a message."""
    values = [message or b"" for message in messages]
    decoded, readable = _decode(values)
    doubtful = np.flatnonzero(~readable)
    if len(doubtful) == 0:
        return decoded
    rejected: list[Rejected] = []
    for row in doubtful.tolist():
        newer = avro.brought_up_to_date("FeatureVector", values[row])
        if newer is not None:
            values[row] = newer
            continue
        try:
            name, record = avro.decode(values[row])
            if name != "FeatureVector":
                raise UnknownSchema(f"a {name} where a FeatureVector belongs")
            values[row] = avro.encode(name, record)
        except BadMessage as error:
            rejected.append((row, error))
    decoded, readable = _decode(values)
    refused = {row for row, _ in rejected}
    for row in np.flatnonzero(~readable).tolist():
        if row not in refused:
            rejected.append((row, BadMessage("its transaction was not written by our encoder")))
    decoded = decoded.take(np.flatnonzero(readable))
    decoded.rejected.extend(sorted(rejected, key=lambda item: item[0]))
    return decoded


def _decode(values: Sequence[bytes]) -> tuple[DecodedVectors, npt.NDArray[np.bool_]]:
    data, starts = joined(values)
    count = len(values)
    result = DecodedVectors(
        data=data,
        rows=np.arange(count),
        rejected=[],
        matrix=np.full((count, VECTOR_SIZE), np.nan, "<f4"),
        known=np.zeros(count, np.bool_),
        flags=np.zeros(count, np.uint8),
        source=np.zeros((count, len(kernel.SOURCE_FIELDS)), np.int64),
        spans=np.zeros((count, transactions_kernel.SPANS, 2), np.int64),
        numbers=np.zeros((count, len(transactions_kernel.NUMBER_FIELDS)), np.int64),
        degrees=np.zeros((count, 2), np.float64),
    )
    readable = kernel.decode_vectors(
        as_array(data), starts, as_array(VECTOR_HEADER), as_array(FINGERPRINT),
        result.matrix.view(np.uint8), result.source, result.flags, result.known, result.spans,
        result.numbers, result.degrees,
    )  # fmt: skip
    return result, readable.astype(np.bool_)


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
    """Return n FeatureVector messages, equal to `avro.encode("FeatureVector", …)`.

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
    out, ends = kernel.encode_vectors(
        as_array(VECTOR_HEADER), as_array(FINGERPRINT), columns[0], columns[1], columns[2],
        int(computed_at), flags, little.view(np.uint8), as_array(data), starts,
    )  # fmt: skip
    return cut_at(out, ends)
