"""Decisions joined to their labels: quality by model, channel and event hour, in bounded memory.

Pure and columnar. Late labels, labels before their decision and changed labels correct the cell of
the decision's hour. A record takes 34 bytes, and up to 16 in the hash table. A full ring drops its
oldest record, which stays counted in its cell with the label known by then, or as lost. Precision
therefore stays correct, over fewer decisions. Recall looks too good once approved frauds get their
labels after their records were dropped; `unmatched` counts those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from monitor.observe import join_kernel as kernel
from monitor.observe.cells import Cell, Floats, Ints, score_bins
from schemas.columns import CHANNELS
from schemas.features import DAY, HOUR
from schemas.hash_table import new_table

SEGMENTS: Final = (*CHANNELS, "UNKNOWN")
"""A decision is UNKNOWN until the vector with its channel has been seen."""
COUNTER_NAMES: Final = ("repeated", "out_of_range", "unmatched", "forgotten", "flipped", "labels")
MAX_MODELS: Final = 16
MAX_CODES: Final = 32_000
MAX_EARLY_LABELS: Final = 20_000
"""Labels hardly ever come first; beyond this many, the oldest has no decision to wait for."""
NO_MODEL: Final = "none"
Hashes = npt.NDArray[np.uint64]


class CellRow(NamedTuple):
    """One cell with its model, segment and event hour."""

    model_id: str
    segment: str
    hour: int
    cell: Cell


class Quality:
    """The join and its cells.

    Args:
        approved: number of APPROVE decisions whose records are kept.
        flagged: number of REVIEW and BLOCK decisions whose records are kept.
        waiting: number of channels, and at most of labels, that can wait for their decision.
        label_delay_ms: age at which a decision without a label counts as genuine.
        hours: number of event hours with cells; by default the label delay and two days.
    """

    def __init__(
        self,
        *,
        approved: int = 2_000_000,
        flagged: int = 500_000,
        waiting: int = 250_000,
        label_delay_ms: int = 7 * DAY,
        hours: int | None = None,
    ) -> None:
        kept = hours or (label_delay_ms + 2 * DAY) // HOUR
        sizes = (waiting, min(waiting, MAX_EARLY_LABELS), approved, flagged)
        count = sum(sizes)
        cells = (MAX_MODELS, kept, kernel.CHANNEL_CODES)
        self._delay_ms = label_delay_ms
        self._codes: dict[str, int] = {}
        self._seen: dict[str, int] = {}
        self._last_code = -1
        self._store = kernel.Store(
            key=np.zeros(count, np.uint64),
            hour=np.zeros(count, np.int32),
            model=np.zeros(count, np.int16),
            action=np.full(count, kernel.UNDECIDED, np.uint8),
            bin=np.full(count, kernel.NO_BIN, np.uint8),
            channel=np.full(count, kernel.UNKNOWN_CHANNEL, np.uint8),
            label=np.zeros(count, np.uint8),
            amount=np.zeros(count, np.int64),
            label_time=np.zeros(count, np.int64),
            table=new_table(count),
            starts=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            heads=np.zeros(4, np.int64),
            counters=np.zeros(kernel.COUNTERS, np.int64),
            numbers=np.zeros((*cells, kernel.CELL_NUMBERS), np.int64),
            histograms=np.zeros((*cells, kernel.LABELS_OF, kernel.BINS), np.int32),
            model_slot=np.full(MAX_CODES, -1, np.int16),
            newest=np.full(2, -(2**31), np.int64),
            missed=np.zeros(kept, np.int64),
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays; they never grow."""
        return sum(int(array.nbytes) for array in self._store)

    @property
    def models(self) -> tuple[str, ...]:
        """Models with cells."""
        return tuple(model for model in self._codes if self._slot(model) >= 0)

    def counters(self) -> dict[str, int]:
        """Return the counters of the join by name; `join_kernel` explains them."""
        return dict(zip(COUNTER_NAMES, self._store.counters.tolist(), strict=True))

    def advance(self, now_ms: int) -> None:
        """Open the hours up to the one after `now_ms` and drop expired hours."""
        self._store.newest[1] = (now_ms - self._delay_ms) // HOUR - 1
        newest = now_ms // HOUR + 1
        before = int(self._store.newest[0])
        if newest <= before:
            return
        kept = self._store.numbers.shape[1]
        fresh = np.arange(max(before + 1, newest - kept + 1), newest + 1) % kept
        self._store.missed[fresh] = 0
        self._store.numbers[:, fresh] = 0
        self._store.histograms[:, fresh] = 0
        self._store.newest[0] = newest

    def add_decisions(
        self,
        transaction: Hashes,
        time: Ints,
        model: Hashes,
        names: Mapping[int, str],
        action: npt.NDArray[np.uint8],
        score: Floats,
        amount: Ints,
    ) -> None:
        """Note n decisions: hashes, ms, action codes, scores (NaN for none), minor units.

        `transaction` are hashes of id and card (`schemas.keys.identities`), here and below.
        `names` gives the id of each model by its hash; hash 0 stands for no model.
        """
        codes = np.zeros(len(model), np.int16)
        for number in np.unique(model).tolist():
            name = names[number] if number else NO_MODEL
            codes[model == number] = self._code(name, int(self._store.newest[0]))
        kernel.add_decisions(
            self._store, transaction, (time // HOUR).astype(np.int32), codes, action,
            score_bins(score), amount,
        )  # fmt: skip

    def add_labels(
        self, transaction: Hashes, fraud: npt.NDArray[np.bool_], label_time: Ints
    ) -> None:
        """Note n labels, in order of arrival, with the times (ms) since which they are known.

        The newest label of a transaction counts, among equally new ones the last one.
        """
        kernel.add_labels(self._store, transaction, fraud, label_time)

    def add_channels(self, transaction: Hashes, channel: Ints) -> None:
        """Note the channels of n transactions, as positions in `schemas.columns.CHANNELS`."""
        kernel.add_channels(self._store, transaction, channel.astype(np.uint8))

    def hours(self) -> range:
        """Return the event hours with cells, oldest first."""
        newest = int(self._store.newest[0])
        return range(newest - self._store.numbers.shape[1] + 1, newest + 1)

    def total(
        self, model_id: str, hours: Iterable[int], now_ms: int, segment: str | None = None
    ) -> Cell:
        """Return the sum over hours, for one segment or all; mature if each of the hours is."""
        slot = self._slot(model_id)
        kept = self.hours()
        wanted = [hour for hour in hours if hour in kept]
        if slot < 0 or not wanted:
            return Cell.empty()
        places = np.array(wanted) % len(kept)
        channels = slice(None) if segment is None else [SEGMENTS.index(segment)]
        return Cell(
            self._store.numbers[slot][places][:, channels].sum(axis=(0, 1)),
            self._store.histograms[slot][places][:, channels].sum(axis=(0, 1), dtype=np.int64),
            self.is_mature(max(wanted), now_ms),
        )

    def by_hour(self, model_id: str) -> Ints:
        """Return the decisions of each of `hours()` by action and label, int64[hours, 3, 4]."""
        kept = self.hours()
        slot = self._slot(model_id)
        if slot < 0:
            return np.zeros((len(kept), 3, kernel.LABELS_OF), np.int64)
        numbers = self._store.numbers[slot][np.arange(kept.start, kept.stop) % len(kept)]
        summed: Ints = numbers[:, :, : kernel.VALUE].sum(axis=1).reshape(-1, 3, kernel.LABELS_OF)
        return summed

    def missed(self) -> Ints:
        """Return the approved frauds whose label became known in each of `hours()`, int64[h].

        Frauds whose decision is no longer kept are not counted.
        """
        kept = self.hours()
        counted: Ints = self._store.missed[np.arange(kept.start, kept.stop) % len(kept)]
        return counted

    def is_mature(self, hour: int, now_ms: int) -> bool:
        """Return whether the label delay has passed for every decision of an hour."""
        return (hour + 1) * HOUR + self._delay_ms <= now_ms

    def rows(self, now_ms: int) -> Iterator[CellRow]:
        """Yield every cell with decisions, by model, hour and segment."""
        kept = self.hours()
        for model_id in self.models:
            numbers = self._store.numbers[self._slot(model_id)]
            histograms = self._store.histograms[self._slot(model_id)]
            for hour in kept:
                place = hour % len(kept)
                for channel in np.flatnonzero(numbers[place, :, : kernel.VALUE].any(axis=1)):
                    cell = Cell(
                        numbers[place, channel].copy(),
                        histograms[place, channel].astype(np.int64),
                        self.is_mature(hour, now_ms),
                    )
                    yield CellRow(model_id, SEGMENTS[channel], hour, cell)

    def _slot(self, model_id: str) -> int:
        code = self._codes.get(model_id)
        return -1 if code is None else int(self._store.model_slot[code])

    def _code(self, model_id: str, hour: int) -> int:
        """Return the model's code; if all cells are in use, drop the model unseen for longest."""
        self._seen[model_id] = hour
        code = self._codes.get(model_id)
        if code is not None and self._store.model_slot[code] >= 0:
            return code
        used = {name: self._slot(name) for name in self.models}
        free = sorted(set(range(MAX_MODELS)) - set(used.values()))
        if not free:
            oldest = min(used, key=lambda name: self._seen[name])
            self._store.model_slot[self._codes.pop(oldest)] = -1
            self._seen.pop(oldest)
            free = [used[oldest]]
        code = self._next_code()
        self._codes[model_id] = code
        self._store.model_slot[code] = free[0]
        self._store.numbers[free[0]] = 0
        self._store.histograms[free[0]] = 0
        return code

    def _next_code(self) -> int:
        """Return the unused code last used longest ago: old records may still hold it."""
        self._last_code = (self._last_code + 1) % MAX_CODES
        while self._last_code in self._codes.values():
            self._last_code = (self._last_code + 1) % MAX_CODES
        return self._last_code
