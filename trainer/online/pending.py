"""Transactions that wait for their labels, in a ring. Pure.

A transaction counts as genuine when the label delay has passed, or when its place in the ring is
needed before that, so that the share of frauds stays true however small the ring is. A share of the
genuine ones, chosen by a hash, is learned with a weight that makes up for the rest. A fraud that is
reported later still is learned as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from schemas.features import DAY

Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
WAITING, GENUINE, FRAUD = range(3)
GENUINE_SHARE: Final = 0.1
MAX_EARLY: Final = 100_000
AT_ONCE: Final = 10_000
FIELDS: Final = ("key", "inputs", "log_odds", "received", "state")


@dataclass(frozen=True, slots=True)
class KnownLabels:
    """k slots of the ring whose labels are known now, in that order."""

    slots: Ints
    fraud: npt.NDArray[np.bool_]

    @property
    def weight(self) -> npt.NDArray[np.float64]:
        """What each counts for."""
        return np.where(self.fraud, 1.0, 1.0 / GENUINE_SHARE)


class Pending:
    """`records` transactions at most, 320 bytes each, and 100,000 labels that came too early.

    `inputs` float32[records, 71] and `log_odds` float64[records] are the champion's.
    """

    def __init__(self, records: int, columns: int, *, label_delay_ms: int = 7 * DAY) -> None:
        self.key = np.zeros(records, np.uint64)
        self.inputs = np.zeros((records, columns), np.float32)
        self.log_odds = np.zeros(records)
        self.received = np.zeros(records, np.int64)
        self.state = np.zeros(records, np.uint8)
        self.added = 0
        self.ripe = 0
        """Rows added so far, and those of them that count as genuine unless they are frauds."""
        self.now = 0
        """Newest time of arrival, ms."""
        self.early: dict[int, bool] = {}
        self._index: dict[int, int] = {}
        self._delay = label_delay_ms

    def __len__(self) -> int:
        """Number of transactions held."""
        return min(self.added, len(self.key))

    def new(self, keys: Keys) -> Ints:
        """Return the places of the keys that are not held, each once, ascending."""
        index = self._index
        first = {key: row for row, key in reversed(list(enumerate(keys.tolist())))}
        return np.array(sorted(row for key, row in first.items() if key not in index), np.int64)

    def make_room(self, rows: int) -> KnownLabels:
        """Return the genuine whose places the next `rows` (at most all) will take."""
        until = max(self.added + rows - len(self.key), self.ripe)
        return self._ripen(min(until, self.added))

    def add(
        self,
        keys: Keys,
        inputs: npt.NDArray[np.float32],
        log_odds: npt.NDArray[np.float64],
        received: Ints,
    ) -> KnownLabels:
        """Hold n new transactions, after `make_room(n)`; return those whose labels came earlier."""
        slots = (self.added + np.arange(len(keys))) % len(self.key)
        index = self._index
        for old in self.key[slots[self.added + np.arange(len(keys)) >= len(self.key)]].tolist():
            index.pop(old, None)
        self.key[slots], self.inputs[slots], self.log_odds[slots] = keys, inputs, log_odds
        self.received[slots], self.state[slots] = received, WAITING
        numbers = keys.tolist()
        index.update(zip(numbers, slots.tolist(), strict=True))
        self.added += len(keys)
        if len(keys):
            self.now = max(self.now, int(received.max()))
        early = self.early
        came = [(key, early.pop(key)) for key in numbers if key in early] if early else []
        return self.label([key for key, _ in came], [fraud for _, fraud in came])

    def label(self, keys: Sequence[int], frauds: Sequence[bool]) -> KnownLabels:
        """Note labels in order of arrival; return the transactions to learn from now."""
        slots, known = list[int](), list[bool]()
        index, state = self._index, self.state
        for key, fraud in zip(keys, frauds, strict=True):
            slot = index.get(key)
            if slot is None:
                self.early[key] = self.early.get(key, False) or fraud
                if len(self.early) > MAX_EARLY:
                    del self.early[next(iter(self.early))]
            elif state[slot] == WAITING or (fraud and state[slot] == GENUINE):
                state[slot] = FRAUD if fraud else GENUINE
                slots.append(slot)
                known.append(fraud)
        found, fraud_now = np.array(slots, np.int64), np.array(known, np.bool_)
        kept = fraud_now | self._chosen(found)
        return KnownLabels(found[kept], fraud_now[kept])

    def mature(self) -> KnownLabels:
        """Return the genuine whose label delay has passed by `now`."""
        until = self.ripe
        while until < self.added:
            rows = np.arange(until, min(until + AT_ONCE, self.added)) % len(self.key)
            due = self.received[rows] + self._delay <= self.now
            if not due.all():
                until += int(np.argmin(due))
                break
            until += len(rows)
        return self._ripen(until)

    def _ripen(self, until: int) -> KnownLabels:
        slots = np.arange(self.ripe, until) % len(self.key)
        self.ripe = until
        slots = slots[self.state[slots] == WAITING]
        self.state[slots] = GENUINE
        slots = slots[self._chosen(slots)]
        return KnownLabels(slots, np.zeros(len(slots), np.bool_))

    def _chosen(self, slots: Ints) -> npt.NDArray[np.bool_]:
        """Return which are of the share of the genuine that is learned."""
        mixed = self.key[slots] * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(32)
        chosen: npt.NDArray[np.bool_] = mixed < np.uint64(GENUINE_SHARE * 2.0**64)
        return chosen

    def newest(self, rows: int) -> Ints:
        """Return the slots of the last `rows` transactions, or of all that are held."""
        first = max(self.added - min(rows, len(self)), 0)
        return np.arange(first, self.added) % len(self.key)

    def document(self) -> dict[str, Any]:
        """Return arrays and numbers from which `restore` makes it again, oldest first."""
        slots = self.newest(len(self))
        return {
            **{name: getattr(self, name)[slots] for name in FIELDS},
            "unripe": self.added - self.ripe,
            "now": self.now,
            "early_keys": np.array(list(self.early), np.uint64),
            "early_frauds": np.array(list(self.early.values()), np.bool_),
        }

    def restore(self, document: dict[str, Any]) -> None:
        """Take over what `document` returned; of a larger ring, its newest transactions."""
        kept = min(len(document["key"]), len(self.key))
        for name in FIELDS:
            stored = document[name]
            getattr(self, name)[:kept] = stored[len(stored) - kept :]
        self.added, self.now = kept, int(document["now"])
        self.ripe = max(kept - int(document["unripe"]), 0)
        self._index = dict(zip(self.key[:kept].tolist(), range(kept), strict=True))
        self.early = dict(
            zip(document["early_keys"].tolist(), document["early_frauds"].tolist(), strict=True)
        )
