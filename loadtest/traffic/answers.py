"""Decodes messages of the decisions topic into arrays: which transaction, what decision, when.

The bare echo sends back the transactions themselves, of which only the identity is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from schemas.codec import transactions_kernel as kernel
from schemas.codec.avro import header
from schemas.codec.byte_spans import as_array, joined
from schemas.codec.decisions import DecodedDecisions, decode_decisions
from schemas.keys import identities

MIXER: Final = np.uint64(0x9E3779B97F4A7C15)
TRANSACTION_HEADER: Final = header("Transaction")
ECHO: Final = -1
"""The action of a transaction that the bare echo sent back."""


class Answers(NamedTuple):
    """n answers in columns.

    Attributes:
        identity: see `schemas.keys.identities`; 0 if the message could not be read.
        content: hash of position, decision and score.
        model: hash of the model's id, or 0 if the decision names no model.
        action: 0 approve, 1 review, 2 block, -1 an echo.
        degraded: whether the decision was made without a model.
        received_at: ms UTC, 0 for an echo.
        computed_at: µs UTC, 0 for an echo.
        decided_at: µs UTC, 0 for an echo.
        seen: when the receiver saw it, in ns of the monotonic clock.
    """

    identity: npt.NDArray[np.uint64]
    content: npt.NDArray[np.uint64]
    model: npt.NDArray[np.uint64]
    action: npt.NDArray[np.int8]
    degraded: npt.NDArray[np.bool_]
    received_at: npt.NDArray[np.int64]
    computed_at: npt.NDArray[np.int64]
    decided_at: npt.NDArray[np.int64]
    seen: npt.NDArray[np.int64]

    @classmethod
    def join(cls, parts: Sequence[Answers]) -> Answers:
        """Return the answers of all parts in their order."""
        return cls._make(np.concatenate(columns) for columns in zip(*parts, strict=True))


def read_answers(messages: Sequence[bytes], seen: int) -> Answers:
    """Decode messages of the decisions topic; unreadable ones get identity 0."""
    n = len(messages)
    answers = Answers(
        identity=np.zeros(n, np.uint64),
        content=np.zeros(n, np.uint64),
        model=np.zeros(n, np.uint64),
        action=np.zeros(n, np.int8),
        degraded=np.zeros(n, np.bool_),
        received_at=np.zeros(n, np.int64),
        computed_at=np.zeros(n, np.int64),
        decided_at=np.zeros(n, np.int64),
        seen=np.full(n, seen, np.int64),
    )
    echoes = [row for row, value in enumerate(messages) if value.startswith(TRANSACTION_HEADER)]
    if echoes:
        _note_echoes(answers, messages, np.array(echoes))
    if len(echoes) < n:
        _note_decisions(answers, decode_decisions(messages))
    return answers


def _note_decisions(answers: Answers, decisions: DecodedDecisions) -> None:
    rows = decisions.rows if decisions.rejected else slice(None)
    answers.identity[rows] = identities(decisions.transaction, decisions.card)
    answers.model[rows] = decisions.model
    answers.action[rows] = decisions.action
    answers.degraded[rows] = decisions.degraded
    for name in ("received_at", "computed_at", "decided_at"):
        getattr(answers, name)[rows] = decisions.number(name)
    answers.content[rows] = _hash_contents(
        decisions.number("source_partition"),
        decisions.number("source_offset"),
        decisions.action,
        decisions.score.view(np.uint64),
    )


def _note_echoes(answers: Answers, messages: Sequence[bytes], rows: npt.NDArray[np.int64]) -> None:
    data, starts = joined([messages[row] for row in rows.tolist()])
    hashes = _read_echoes(as_array(data), starts, len(TRANSACTION_HEADER))
    answers.identity[rows] = identities(hashes[:, 0], hashes[:, 1])
    answers.action[rows] = ECHO


@njit(cache=True)
def _hash_contents(partition, offset, action, score):  # type: ignore[no-untyped-def]
    hashes = np.empty(len(partition), np.uint64)
    for row in range(len(partition)):
        content = np.uint64(partition[row])
        for part in (np.uint64(offset[row]), np.uint64(action[row]), score[row]):
            content = content * MIXER ^ part
            content ^= content >> np.uint64(32)
        hashes[row] = content
    return hashes


@njit(cache=True)
def _read_echoes(data, starts, header_size):  # type: ignore[no-untyped-def]
    """Return the hashes of transaction and card, 0 if a message cannot be read: uint64[n, 2]."""
    count = len(starts) - 1
    hashes = np.zeros((count, 2), np.uint64)
    spans = np.zeros((1, kernel.SPANS, 2), np.int64)
    numbers = np.zeros((1, len(kernel.NUMBER_FIELDS)), np.int64)
    bits = np.zeros((1, 2), np.uint64)
    for row in range(count):
        start, stop = starts[row] + header_size, starts[row + 1]
        if kernel.read_transaction(data, start, stop, 0, spans, numbers, bits) == stop:
            hashes[row, 0] = kernel.text_hash(data, spans, 0, kernel.TRANSACTION_ID)
            hashes[row, 1] = kernel.text_hash(data, spans, 0, kernel.CARD)
    return hashes
