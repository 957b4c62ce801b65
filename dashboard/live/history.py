"""The last minutes of some figures, in bounded memory, so that a page opens with its charts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

DIGITS = 5
"""Significant digits that are sent; no chart can show more."""


class History:
    """A ring of `capacity` points of `fields`, float32; None and NaN mean unknown."""

    def __init__(self, fields: Sequence[str], capacity: int) -> None:
        self.fields = tuple(fields)
        self._times = np.zeros(capacity, np.int64)
        self._values = np.full((capacity, len(self.fields)), np.nan, np.float32)
        self._added = 0

    def __len__(self) -> int:
        """Return the number of points."""
        return min(self._added, len(self._times))

    def add(self, at_ms: int, values: Mapping[str, float | None]) -> None:
        """Add a point, over the oldest when full; a missing field is unknown."""
        place = self._added % len(self._times)
        self._times[place] = at_ms
        self._values[place] = [
            math.nan if (value := values.get(name)) is None else value for name in self.fields
        ]
        self._added += 1

    def since(self, at_ms: int = 0) -> dict[str, list[Any]]:
        """Return the points after `at_ms` as columns, oldest first: `at` in ms, and each field.

        >>> history = History(["lag"], 2)
        >>> for at in (1, 2, 3):
        ...     history.add(at, {"lag": 10.0 * at})
        >>> history.since(2)
        {'at': [3], 'lag': [30.0]}
        """
        order = (np.arange(len(self)) + max(self._added - len(self._times), 0)) % len(self._times)
        order = order[self._times[order] > at_ms]
        columns: dict[str, list[Any]] = {"at": self._times[order].tolist()}
        for number, name in enumerate(self.fields):
            columns[name] = [rounded(value) for value in self._values[order, number].tolist()]
        return columns


def rounded(value: float | None) -> float | None:
    """Return a number as it is sent: with few digits, and None for NaN and infinity.

    >>> rounded(0.123456789), rounded(math.nan)
    (0.12346, None)
    """
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{DIGITS}g}")
