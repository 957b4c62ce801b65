"""Decisions to columns, compiled: which transaction, what answer, when.

Reads what a load test needs and no more; the bare echo's messages (transactions that came back)
are read for their identity only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from loadtest.traffic.encode import identities
from schemas.codec.avro import HEADER_SIZE, header
from schemas.keys import hash_span

_ACTION, _DEGRADED, _RECEIVED, _COMPUTED, _DECIDED = range(5)
_TRANSACTION, _CARD, _MODEL = range(3)


class Answers(NamedTuple):
    """n answers.

    `identity` as in encode.py; `content` (a hash) is equal if position, decision and score are;
    `model` is the hash of the model's id, 0 if none decided; `action` 0 approve, 1 review, 2 block,
    -1 an echo; `received_at` in ms UTC, the next two in µs UTC, 0 in an echo; `seen` in ns of the
    monotonic clock.
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
        """Return all answers of all parts."""
        return cls._make(np.concatenate(columns) for columns in zip(*parts, strict=True))


def read_answers(messages: Sequence[bytes], seen: int) -> Answers:
    """Decode messages of the decisions topic seen at `seen`; unreadable ones get identity 0."""
    n = len(messages)
    ends = np.cumsum(np.fromiter((len(m) for m in messages), np.int64, n))
    data = np.frombuffer(b"".join(messages), np.uint8) if n else np.zeros(0, np.uint8)
    fields = np.zeros((n, 5), np.int64)
    spans = np.zeros((3, n, 2), np.int64)
    content = np.zeros(n, np.uint64)
    kinds = np.frombuffer(header("Decision") + header("Transaction"), np.uint8)
    _read(data, ends, kinds, fields, spans, content)
    transaction, card, model = (_span_hashes(data, span) for span in spans)
    known = (spans[_TRANSACTION, :, 1] > 0) & (spans[_CARD, :, 1] > 0)
    return Answers(
        np.where(known, identities(transaction, card), np.uint64(0)),
        content,
        model,
        fields[:, _ACTION].astype(np.int8),
        fields[:, _DEGRADED] > 0,
        fields[:, _RECEIVED],
        fields[:, _COMPUTED],
        fields[:, _DECIDED],
        np.full(n, seen, np.int64),
    )


@njit(cache=True)
def _span_hashes(data, spans):  # type: ignore[no-untyped-def]
    out = np.zeros(len(spans), np.uint64)
    for row in range(len(spans)):
        if spans[row, 1] > spans[row, 0]:
            out[row] = hash_span(data, spans[row, 0], spans[row, 1])
    return out


@njit(cache=True)
def _number(data, at, end):  # type: ignore[no-untyped-def]
    value, shift = np.uint64(0), np.uint64(0)
    while at < end:
        byte = np.uint64(data[at])
        at += 1
        value |= (byte & np.uint64(127)) << shift
        if byte < np.uint64(128):
            return np.int64(value >> np.uint64(1)) ^ -np.int64(value & np.uint64(1)), at
        shift += np.uint64(7)
    return np.int64(0), end + 1  # cut short


@njit(cache=True)
def _skip_text(data, at, end):  # type: ignore[no-untyped-def]
    length, at = _number(data, at, end)
    return at + length


@njit(cache=True)
def _skip_optional_double(data, at, end):  # type: ignore[no-untyped-def]
    branch, at = _number(data, at, end)
    return at + (8 if branch == 1 else 0)


@njit(cache=True)
def _items(data, at, end):  # type: ignore[no-untyped-def]
    """Return the number of items of an array block and where they start."""
    count, at = _number(data, at, end)
    if count < 0:
        _, at = _number(data, at, end)
        count = -count
    return count, at


@njit(cache=True)
def _skip_arrays(data, at, end):  # type: ignore[no-untyped-def]
    """Skip rule_hits, reasons and shadows."""
    for which in range(3):
        while at <= end:
            count, at = _items(data, at, end)
            if count == 0:
                break
            for _ in range(count):
                at = _skip_text(data, at, end)
                if which == 1:
                    at = _skip_text(data, at, end)
                    at = _skip_optional_double(data, at, end)
                elif which == 2:
                    at += 8
                if at > end:
                    return at
    return at


@njit(cache=True)
def _starts_with(data, at, expected):  # type: ignore[no-untyped-def]
    for index in range(len(expected)):  # noqa: SIM110 (compiled)
        if data[at + index] != expected[index]:
            return False
    return True


@njit(cache=True)
def _read(data, ends, kinds, fields, spans, content):  # type: ignore[no-untyped-def]
    begin = np.int64(0)
    for row in range(len(ends)):
        end = ends[row]
        if end - begin > HEADER_SIZE:
            at = begin + HEADER_SIZE
            if _starts_with(data, begin, kinds[:HEADER_SIZE]):
                _decision(data, at, end, row, fields, spans, content)
            elif _starts_with(data, begin, kinds[HEADER_SIZE:]):
                length, at = _number(data, at, end)
                spans[_TRANSACTION, row, 0], spans[_TRANSACTION, row, 1] = at, at + length
                _, at = _number(data, at + length, end)
                length, at = _number(data, at, end)
                spans[_CARD, row, 0], spans[_CARD, row, 1] = at, at + length
                fields[row, _ACTION] = -1
        begin = end


@njit(cache=True)
def _decision(data, at, end, row, fields, spans, content):  # type: ignore[no-untyped-def]
    first = at
    _, at = _number(data, at, end)
    _, at = _number(data, at, end)
    for which in (_TRANSACTION, _CARD):
        length, at = _number(data, at, end)
        spans[which, row, 0], spans[which, row, 1] = at, at + length
        at += length
    at = _skip_text(data, at, end)
    _, at = _number(data, at, end)
    _, at = _number(data, at, end)
    at = _skip_text(data, at, end)
    action, at = _number(data, at, end)
    at = _skip_optional_double(data, at, end)
    if at <= end:
        content[row] = hash_span(data, first, at)
    at = _skip_optional_double(data, at, end)
    branch, at = _number(data, at, end)
    if branch == 1:
        length, at = _number(data, at, end)
        spans[_MODEL, row, 0], spans[_MODEL, row, 1] = at, at + length
        at += length
    _, at = _number(data, at, end)
    at = _skip_text(data, at, end)
    branch, at = _number(data, at + 2, end)  # after duplicate and late
    if branch == 1:
        at = _skip_text(data, at, end)
    fields[row, _DEGRADED] = branch
    fields[row, _ACTION] = action
    at = _skip_arrays(data, at, end)
    for which in range(3):
        value, at = _number(data, at, end)
        fields[row, _RECEIVED + which] = value
    if at != end:  # not ours, or cut short
        spans[:, row, :] = 0
