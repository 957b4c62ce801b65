"""Decision messages to columns and back, a batch at a time.

A test compares both ways with the reference codec. A message that the compiled reader refuses is
read by the reference codec, which says what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Final

import fastavro
import numpy as np
import numpy.typing as npt

from schemas.codec import avro
from schemas.codec import decisions_kernel as kernel
from schemas.codec.byte_spans import Ints, as_array, cut_at, hash_texts, joined, sliced
from schemas.codec.vectors import DecodedVectors
from schemas.columns import REFUND, REVERSAL
from schemas.currency import CurrencyTable
from schemas.errors import BadMessage, Rejected, UnknownSchema
from schemas.records import Reason

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint64]
HEADER: Final = avro.header("Decision")
ACTIONS: Final = ("APPROVE", "REVIEW", "BLOCK")
ROLES: Final = ("NONE", "CHAMPION", "CANARY")
NO_EXPLANATION: Final = b"\x00\x00\x00"


@dataclass(frozen=True, slots=True)
class DecodedDecisions:
    """The readable decisions of a batch, g rows, and the messages that were rejected.

    `rows` are their places in the batch, ascending. `numbers` int64[g, 7], `codes` uint8[g, 6] and
    `spans` int64[g, 5, 2] hold the fields that `decisions_kernel` names; `scores` float64[g, 2]
    score and anomaly score, NaN for null; `hashes` uint64[g, 2] of the transaction and of the
    model, 0 if no model decided.
    """

    data: bytes
    rows: Ints
    rejected: list[Rejected]
    numbers: Ints
    codes: Codes
    spans: Ints
    scores: Floats
    hashes: Hashes

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def number(self, field: str) -> Ints:
        """Return a field of `decisions_kernel.NUMBERS` as int64[g]."""
        return self.numbers[:, kernel.NUMBERS.index(field)]

    @property
    def transaction(self) -> Hashes:
        """Hash of the transaction id (`schemas.keys`)."""
        return self.hashes[:, 0]

    @property
    def card(self) -> Hashes:
        """Hash of the card id."""
        spans = np.ascontiguousarray(self.spans[:, kernel.CARD])
        hashes: Hashes = hash_texts(as_array(self.data), spans)
        return hashes

    @property
    def model(self) -> Hashes:
        """Hash of the model id, 0 if no model decided."""
        return self.hashes[:, 1]

    @property
    def score(self) -> Floats:
        """Calibrated score, NaN if no model decided."""
        return self.scores[:, kernel.SCORE]

    @property
    def anomaly(self) -> Floats:
        """Anomaly score, NaN if no model decided."""
        return self.scores[:, kernel.ANOMALY]

    @property
    def action(self) -> Codes:
        """Position in `ACTIONS`."""
        return self.codes[:, kernel.ACTION]

    @property
    def role(self) -> Codes:
        """Position in `ROLES`."""
        return self.codes[:, kernel.ROLE]

    @property
    def duplicate(self) -> npt.NDArray[np.bool_]:
        """Whether the transaction was seen before."""
        return self.codes[:, kernel.DUPLICATE].astype(np.bool_)

    @property
    def kind(self) -> Codes:
        """Position in `schemas.columns.KINDS`."""
        return self.codes[:, kernel.KIND]

    @property
    def given_back(self) -> npt.NDArray[np.bool_]:
        """Whether the transaction is a refund or reversal, which spends nothing."""
        return np.isin(self.kind, (REFUND, REVERSAL))

    @property
    def degraded(self) -> npt.NDArray[np.bool_]:
        """Whether the decision was made without a model's score."""
        return self.codes[:, kernel.DEGRADED].astype(np.bool_)

    def raw(self, field: str) -> list[bytes]:
        """Return a field of `decisions_kernel.TEXTS` of every row as UTF-8, empty if null."""
        spans = self.spans[:, kernel.TEXTS.index(field)]
        return sliced(self.data, spans[:, 0], spans[:, 1])

    def model_ids(self) -> dict[int, str]:
        """Return the models of the batch by their hash."""
        hashes, first = np.unique(self.model, return_index=True)
        spans = self.spans[first, kernel.MODEL]
        texts = sliced(self.data, spans[:, 0], spans[:, 1])
        return {
            number: text.decode() for number, text in zip(hashes.tolist(), texts, strict=True)
            if number
        }  # fmt: skip

    def base_amount(self, currencies: CurrencyTable) -> Ints:
        """Return the amounts in minor units of the base currency; 0 where there is no rate."""
        spans = self.spans[:, kernel.CURRENCY]
        data = as_array(self.data)
        start = np.minimum(spans[:, 0], max(len(data) - 3, 0))
        letters = [data[start + place].astype(np.int64) for place in range(3)] if len(self) else []
        if not letters:
            return np.zeros(0, np.int64)
        code = letters[0] << 16 | letters[1] << 8 | letters[2]
        amounts = self.number("amount")
        base = np.zeros(len(self), np.int64)
        for number, scale in zip(*currencies.packed, strict=True):
            mine = (code == number) & (spans[:, 1] - spans[:, 0] == 3)
            base[mine] = amounts[mine] if scale == 1.0 else np.rint(amounts[mine] * scale)
        return base


def decode_decisions(messages: Sequence[bytes | None]) -> DecodedDecisions:
    """Decode a batch of `decisions` messages. Never raises for a message."""
    values = [message or b"" for message in messages]
    decoded, readable = _decode(values)
    if readable.all():
        return decoded
    older = [
        (row, newer)
        for row in np.flatnonzero(~readable).tolist()
        if (newer := avro.brought_up_to_date("Decision", values[row])) is not None
    ]
    if older:
        for row, newer in older:
            values[row] = newer
        decoded, readable = _decode(values)
    rejected = [(row, _reason(values[row])) for row in np.flatnonzero(~readable).tolist()]
    rows = np.flatnonzero(readable)
    return replace(
        decoded, rows=rows, rejected=rejected, numbers=decoded.numbers[rows],
        codes=decoded.codes[rows], spans=decoded.spans[rows], scores=decoded.scores[rows],
        hashes=decoded.hashes[rows],
    )  # fmt: skip


def _decode(values: Sequence[bytes]) -> tuple[DecodedDecisions, npt.NDArray[np.bool_]]:
    data, starts = joined(values)
    count = len(values)
    result = DecodedDecisions(
        data=data,
        rows=np.arange(count),
        rejected=[],
        numbers=np.zeros((count, len(kernel.NUMBERS)), np.int64),
        codes=np.zeros((count, len(kernel.CODES)), np.uint8),
        spans=np.zeros((count, len(kernel.TEXTS), 2), np.int64),
        scores=np.full((count, 2), np.nan),
        hashes=np.zeros((count, 2), np.uint64),
    )
    readable = kernel.decode_decisions(
        as_array(data), starts, as_array(HEADER), result.numbers, result.codes, result.spans,
        result.scores, result.hashes,
    )  # fmt: skip
    return result, readable.astype(np.bool_)


def _reason(message: bytes) -> BadMessage:
    try:
        name, _ = avro.decode(message)
    except BadMessage as error:
        return error
    if name != "Decision":
        return UnknownSchema(f"a {name} where a Decision belongs")
    return BadMessage("this Decision was not written by our encoder")


def explain(
    degraded: str | None = None,
    rule_hits: Sequence[str] = (),
    reasons: Sequence[Reason] = (),
) -> bytes:
    """Return the Avro bytes of these three fields, which follow each other in a Decision.

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
    """Return one Decision message for each row of `vectors`, equal to `avro.encode("Decision", …)`.

    All arrays have shape (g,). `action`: 0 APPROVE, 1 REVIEW, 2 BLOCK; `role`: 0 NONE,
    1 CHAMPION, 2 CANARY; NaN scores are null; `model` indexes `model_ids`, -1 is null;
    `explanations` holds `explain(…)` of the rows that have one; `decided_at` in µs; `shadows` are
    names and scores of the shadow models, NaN where they have none.

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
        as_array(HEADER), as_array(vectors.data), vectors.spans, vectors.numbers,
        vectors.source, vectors.flags, action, score, anomaly, model, as_array(names), name_starts,
        role, as_array(policy_version.encode()), as_array(tails), tail_starts,
        as_array(watchers), watcher_starts, watched, int(decided_at),
    )  # fmt: skip
    return cut_at(out, ends)
