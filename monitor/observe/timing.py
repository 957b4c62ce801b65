"""Histograms of label and stage delays, and the freshness of topics. Pure, O(bins) memory."""

from __future__ import annotations

from typing import Final

import numpy as np

from monitor.observe.cells import Ints

PER_DOUBLING: Final = 4
SIZE: Final = 200


class Delays:
    """A histogram of delays with four bins per doubling, from 1 to 2⁵⁰ units."""

    def __init__(self) -> None:
        self._counts = np.zeros(SIZE, np.int64)

    @property
    def count(self) -> int:
        """Number of delays noted."""
        return int(self._counts.sum())

    def add(self, delays: Ints) -> None:
        """Note delays; negative ones count as 0."""
        places = np.ceil(np.log2(np.maximum(delays, 1)) * PER_DOUBLING).astype(np.int64)
        self._counts += np.bincount(np.minimum(places, SIZE - 1), minlength=SIZE)

    def quantile(self, share: float) -> float:
        """Return the upper edge of the bin with this quantile, NaN without delays.

        >>> delays = Delays()
        >>> delays.add(np.array([1, 2, 4, 1024]))
        >>> delays.quantile(0.75), delays.quantile(1.0)
        (4.0, 1024.0)
        """
        if not self.count:
            return float("nan")
        below = np.cumsum(self._counts)
        return float(2.0 ** (int(np.searchsorted(below, share * below[-1])) / PER_DOUBLING))

    def clear(self) -> None:
        """Remove all delays."""
        self._counts[:] = 0


class Freshness:
    """The newest record of each topic, and how far each stage is behind the one before."""

    def __init__(self) -> None:
        self.newest_ms: dict[str, int] = {}
        """Time at which the newest record of each topic reached the broker."""
        self._reached: dict[str, dict[int, int]] = {}

    def arrived(self, topic: str, timestamp_ms: int) -> None:
        """Note a record's arrival at the broker."""
        self.newest_ms[topic] = max(self.newest_ms.get(topic, 0), timestamp_ms)

    def reached(self, topic: str, partition: Ints, offset: Ints) -> None:
        """Note the positions on `transactions` of the records that a topic has handled."""
        known = self._reached.setdefault(topic, {})
        for number in np.unique(partition).tolist():
            newest = int(offset[partition == number].max())
            known[number] = max(known.get(number, -1), newest)

    def behind(self, later: str, earlier: str) -> int:
        """Return by how many positions topic `later` is behind `earlier`, over all partitions."""
        after = self._reached.get(later, {})
        return sum(
            max(offset - after.get(number, -1), 0)
            for number, offset in self._reached.get(earlier, {}).items()
        )
