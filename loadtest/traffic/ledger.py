"""Accounts for every transaction of a run: was it answered, how often, and how fast?

Every transaction gets the next index. Columns by index hold its due time, its latency and the time
spent in each stage; a hash table maps identities to indices. Pure: no I/O and no clock.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from loadtest.traffic.answers import Answers
from schemas.hash_table import EMPTY, find, insert_rows, new_table

UNANSWERED: Final = -1
STAGES: Final = ("send_to_stream", "stream", "features_to_decision", "decision_to_receiver")
ACTIONS: Final = ("approve", "review", "block")
ANNOUNCED: Final = 20_000
"""Upper limit of the transactions that are announced before they are due."""
_FIRST: Final = 1 << 16


class LedgerCounts(NamedTuple):
    """The balance of a run.

    `decided` counts the transactions with an answer and `lost` those without; `unknown` counts
    answers that belong to no transaction sent.
    """

    sent: int
    decided: int
    lost: int
    duplicated: int
    conflicting: int
    unknown: int


class Ledger:
    """Matches answers to transactions.

    `wall_offset_ns` is the wall clock minus the monotonic clock; it makes the services' time stamps
    comparable with due times.
    """

    def __init__(self, wall_offset_ns: int) -> None:
        self._offset = wall_offset_ns
        self.size = 0
        self.unknown = 0
        self.degraded = 0
        self.models: Counter[int] = Counter()
        """Decisions by the hash of the model that they name; 0 if they name no model."""
        self.answered = 0
        """Transactions with an answer; a transaction sent twice counts once."""
        self.actions = np.zeros(len(ACTIONS), np.int64)
        self._open = 0
        self._index = new_table(2 * _FIRST)
        self._identity = np.zeros(_FIRST, np.uint64)
        self._content = np.zeros(_FIRST, np.uint64)
        self.due = np.zeros(_FIRST, np.int64)
        self.latency = np.full(_FIRST, UNANSWERED, np.int64)
        self._expected = np.zeros(_FIRST, np.int32)
        self._answered = np.zeros(_FIRST, np.int32)
        self._conflicting = np.zeros(_FIRST, np.int32)
        self.stages = np.full((_FIRST, len(STAGES)), np.nan, np.float32)

    def sent(self, identity: npt.NDArray[np.uint64], due: npt.NDArray[np.int64]) -> None:
        """Record transactions that are about to be sent; `due` is in ns of the monotonic clock."""
        self._reserve(self.size + len(identity))
        self._open += len(identity)
        self.size = _insert(
            self._index, self._identity, self._expected, self.due, self.size, identity, due
        )

    def received(self, answers: Answers) -> npt.NDArray[np.int64]:
        """Record answers; return the latencies (ns) of transactions answered for the first time."""
        index = _find(self._index, self._identity, answers.identity)
        known = index >= 0
        self.unknown += int((~known).sum())
        rows = np.flatnonzero(known)
        index = index[rows]
        fresh, awaited = _answer(
            index,
            answers.content[rows],
            answers.seen[rows],
            self._expected,
            self._answered,
            self._content,
            self._conflicting,
            self.latency,
            self.due,
        )
        self._open -= awaited
        rows, index = rows[fresh], index[fresh]
        self.answered += len(rows)
        real = answers.action[rows] >= 0
        self.actions += np.bincount(answers.action[rows][real], minlength=len(ACTIONS))
        self.degraded += int(answers.degraded[rows].sum())
        named, counts = np.unique(answers.model[rows][real], return_counts=True)
        self.models.update(dict(zip(named.tolist(), counts.tolist(), strict=True)))
        if real.any():
            self._note_stages(answers, rows, index)
        latency: npt.NDArray[np.int64] = self.latency[index]
        return latency

    def _note_stages(
        self, answers: Answers, rows: npt.NDArray[np.int64], index: npt.NDArray[np.int64]
    ) -> None:
        moments = (
            (self.due[index] + self._offset) / 1e6,
            answers.received_at[rows],
            answers.computed_at[rows] / 1e3,
            answers.decided_at[rows] / 1e3,
            (answers.seen[rows] + self._offset) / 1e6,
        )
        for stage in range(len(STAGES)):
            self.stages[index, stage] = moments[stage + 1] - moments[stage]

    def counts(self, first: int = 0, last: int | None = None) -> LedgerCounts:
        """Return the balance of the transactions with index first..last-1, by default of all."""
        rows = slice(first, self.size if last is None else last)
        expected, answered = self._expected[rows], self._answered[rows]
        return LedgerCounts(
            sent=int(expected.sum()),
            decided=int(np.minimum(expected, answered).sum()),
            lost=int(np.maximum(expected - answered, 0).sum()),
            duplicated=int(np.maximum(answered - expected, 0).sum()),
            conflicting=int(self._conflicting[rows].sum()),
            unknown=self.unknown,
        )

    def first_answer(self) -> int | None:
        """Return when the first answer came (ns, monotonic), or None before that."""
        latency = self.latency[: self.size]
        came = self.due[: self.size][latency >= 0] + latency[latency >= 0]
        return int(came.min()) if len(came) else None

    def forget_mix(self) -> None:
        """Reset the counts by decision and by model, for example after a warm-up."""
        self.actions[:] = 0
        self.degraded = 0
        self.models.clear()

    def waiting(self, now: int) -> int:
        """Return how many transactions due by `now` (ns, monotonic) have no answer yet."""
        newest = self.due[max(self.size - ANNOUNCED, 0) : self.size]
        return max(self._open - int((newest > now).sum()), 0)

    def _reserve(self, rows: int) -> None:
        capacity = len(self.due)
        if rows <= capacity:
            return
        while capacity < rows:
            capacity *= 2
        extra = capacity - len(self.due)
        for name in ("_identity", "_content", "due", "_expected", "_answered", "_conflicting"):
            held = getattr(self, name)
            setattr(self, name, np.concatenate([held, np.zeros(extra, held.dtype)]))
        self.latency = np.concatenate([self.latency, np.full(extra, UNANSWERED, np.int64)])
        gap = np.full((extra, len(STAGES)), np.nan, np.float32)
        self.stages = np.concatenate([self.stages, gap])
        self._index = new_table(2 * capacity)
        insert_rows(self._index, self._identity, self.size)


@njit(cache=True)
def _insert(table, held, expected, dues, size, identity, due):  # type: ignore[no-untyped-def]
    """Add identities; one that is sent again keeps its first index, and is expected twice."""
    for row in range(len(identity)):
        place = find(table, held, identity[row])
        if table[place] == EMPTY:
            table[place] = size
            held[size] = identity[row]
            dues[size] = due[row]
            size += 1
        expected[table[place]] += 1
    return size


@njit(cache=True)
def _find(table, held, identity):  # type: ignore[no-untyped-def]
    out = np.empty(len(identity), np.int64)
    for row in range(len(identity)):
        out[row] = table[find(table, held, identity[row])]
    return out


@njit(cache=True)
def _answer(index, content, seen, expected, answered, contents, conflicting, latency, due):  # type: ignore[no-untyped-def]
    fresh = np.zeros(len(index), np.bool_)
    awaited = 0
    for row in range(len(index)):
        at = index[row]
        if answered[at] == 0:
            contents[at] = content[row]
            latency[at] = seen[row] - due[at]
            fresh[row] = True
        elif contents[at] != content[row]:
            conflicting[at] += 1
        if answered[at] < expected[at]:
            awaited += 1
        answered[at] += 1
    return fresh, awaited
