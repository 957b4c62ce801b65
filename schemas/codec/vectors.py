"""Batch codec of the scorer: FeatureVector messages to columns, columns to Decision messages.

The compiled way and the reference codec give the same by test; a message that the compiled way
refuses is read by the reference, which says what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import fastavro
import numpy as np
import numpy.typing as npt

from schemas.codec import avro, transactions_kernel
from schemas.codec import vectors_kernel as kernel
from schemas.codec.transactions import Ints, Rejected, as_array, joined, sliced
from schemas.errors import BadMessage, UnknownSchema
from schemas.features import FINGERPRINT, VECTOR_SIZE
from schemas.records import Reason, Transaction

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint8]
VECTOR_HEADER: Final = avro.header("FeatureVector")
DECISION_HEADER: Final = avro.header("Decision")
NO_EXPLANATION: Final = b"\x00\x00\x00"
_TEXT: Final = {name: place for place, name in enumerate(transactions_kernel.TEXT_FIELDS)}


@dataclass(frozen=True, slots=True)
class DecodedVectors:
    """The readable vectors of a batch, g rows, and what was refused.

    `rows` are their places in the batch, ascending. `matrix` (float32[g, 70]) is NaN where the
    vector is not of our catalogue (`known` False). `flags`: bit 0 duplicate, bit 1 late.
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
    def latitude(self) -> Floats:
        """Degrees, NaN if missing."""
        return self.degrees[:, 0]

    @property
    def longitude(self) -> Floats:
        """Degrees, NaN if missing."""
        return self.degrees[:, 1]

    @property
    def card_hash(self) -> npt.NDArray[np.uint64]:
        """Hash of the card id: splits canaries."""
        return self._hash("card_id")

    @property
    def transaction_hash(self) -> npt.NDArray[np.uint64]:
        """Hash of the transaction id: joins vectors to decisions."""
        return self._hash("transaction_id")

    def _hash(self, field: str) -> npt.NDArray[np.uint64]:
        spans = self.spans[:, _TEXT[field]]
        hashes: npt.NDArray[np.uint64] = kernel.hash_texts(
            as_array(self.data), np.ascontiguousarray(spans)
        )
        return hashes

    @property
    def vector_spans(self) -> Ints:
        """Start and end of each vector in `data`, int64[g, 2], whatever its catalogue."""
        starts = self.source[:, kernel.VECTOR_START]
        return np.column_stack([starts, starts + self.source[:, kernel.VECTOR_SIZE]])

    @property
    def fingerprint_spans(self) -> Ints:
        """Start and end of each catalogue fingerprint in `data`, int64[g, 2]."""
        # Between the two stands the vector's size as a varint: a bit is the sign, seven a byte.
        bytes_of_size = (
            np.searchsorted(1 << np.arange(6, 63, 7), self.source[:, kernel.VECTOR_SIZE], "right")
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
        data, offsets = kernel.gather(as_array(self.data), np.ascontiguousarray(spans))
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
        spans=np.zeros((count, len(transactions_kernel.TEXT_FIELDS), 2), np.int64),
        numbers=np.zeros((count, 4), np.int64),
        degrees=np.zeros((count, 2), np.float64),
    )
    readable = kernel.decode_vectors(
        as_array(data), starts, as_array(VECTOR_HEADER), as_array(FINGERPRINT),
        result.matrix.view(np.uint8), result.source, result.flags, result.known, result.spans,
        result.numbers, result.degrees,
    )  # fmt: skip
    return result, readable.astype(np.bool_)


def explain(
    degraded: str | None = None,
    rule_hits: Sequence[str] = (),
    reasons: Sequence[Reason] = (),
) -> bytes:
    """Return the Avro bytes of these three fields, which stand together in a Decision.

    >>> explain() == NO_EXPLANATION
    True
    """
    if not (degraded or rule_hits or reasons):
        return NO_EXPLANATION
    out = BytesIO()
    record = {"degraded": degraded, "rule_hits": list(rule_hits), "reasons": list(reasons)}
    fastavro.schemaless_writer(out, _EXPLANATION_SCHEMA, record)
    return out.getvalue()


_EXPLANATION_SCHEMA: Final = fastavro.parse_schema(
    {
        "type": "record",
        "name": "Explanation",
        "fields": [
            field
            for field in avro.raw_schema("Decision")["fields"]
            if field["name"] in ("degraded", "rule_hits", "reasons")
        ],
    }
)


def encode_decisions(
    vectors: DecodedVectors,
    *,
    action: Codes,
    score: Floats,
    anomaly: Floats,
    model: Ints,
    model_ids: Sequence[str],
    role: Codes,
    policy_version: str,
    explanations: Mapping[int, bytes],
    decided_at: int,
    shadows: Sequence[tuple[str, Floats]] = (),
) -> list[bytes]:
    """Return one Decision message for each row of `vectors`, equal to `codec.encode`.

    All arrays have shape (g,). `action`: 0 APPROVE, 1 REVIEW, 2 BLOCK; `role`: 0 NONE,
    1 CHAMPION, 2 CANARY; NaN scores are null; `model` indexes `model_ids`, -1 is null;
    `explanations` holds `explain(…)` of the rows that have one; `decided_at` in µs; `shadows` are
    names and scores of the models that only watch, NaN where they have none.

    Raises:
        ValueError: shapes or codes are out of range.
    """
    count = len(vectors)
    watching = [scores for _, scores in shadows]
    shapes = {values.shape for values in (action, score, anomaly, model, role)}
    shapes |= {scores.shape for scores in watching}
    if shapes != {(count,)}:
        raise ValueError(f"columns of shapes {sorted(shapes)} for {count} vectors")
    if count and (
        max(action.max(), role.max()) > 2 or model.min() < -1 or model.max() >= len(model_ids)
    ):
        raise ValueError("action, role or model out of range")
    parts = [NO_EXPLANATION] * count
    for row, explanation in explanations.items():
        parts[row] = explanation
    tails, tail_starts = joined(parts)
    names, name_starts = joined([name.encode() for name in model_ids])
    watchers, watcher_starts = joined([name.encode() for name, _ in shadows])
    watched = np.array(watching, np.float64).reshape(len(watching), count)
    out, ends = kernel.encode_decisions(
        as_array(DECISION_HEADER), as_array(vectors.data), vectors.spans, vectors.numbers,
        vectors.source, vectors.flags, action, score, anomaly, model, as_array(names), name_starts,
        role, as_array(policy_version.encode()), as_array(tails), tail_starts,
        as_array(watchers), watcher_starts, watched, int(decided_at),
    )  # fmt: skip
    return sliced(out.tobytes(), np.concatenate([[0], ends[:-1]]) if count else ends, ends)
