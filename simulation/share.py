"""A share that was counted, and how two of them compare, with 95% intervals. Pure.

Alerts on genuine transactions are few, so a figure without its interval says little.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

Z: Final = 1.959964
"""Of a 95% interval."""


@dataclass(frozen=True, slots=True)
class Share:
    """`count` of `of`."""

    count: int
    of: int

    @property
    def value(self) -> float | None:
        """The share; None of nothing."""
        return self.count / self.of if self.of else None

    def interval(self) -> tuple[float, float]:
        """Return the score interval (Wilson 1927); of nothing it is 0 to 1.

        >>> [round(bound, 3) for bound in Share(5, 100).interval()]
        [0.022, 0.112]
        """
        if not self.of:
            return 0.0, 1.0
        share, part = self.count / self.of, Z * Z / self.of
        middle = share + part / 2
        half = math.sqrt(part * (share * (1.0 - share) + part / 4))
        return max((middle - half) / (1 + part), 0.0), min((middle + half) / (1 + part), 1.0)

    def document(self) -> dict[str, Any]:
        """Return counts, share and interval, as in the report."""
        low, high = self.interval()
        return {
            "count": self.count, "of": self.of, "share": self.value, "low": low, "high": high
        }  # fmt: skip


def growth(before: Share, after: Share) -> dict[str, float] | None:
    """Return after / before with its interval; None where `before` has nothing to divide by.

    Of rare events the numbers are Poisson; given their sum, how many of them are `after` is
    binomial, and an interval of that share is one of the ratio (Przyborowski and Wilenski 1940).

    >>> {name: round(value, 2) for name, value in growth(Share(10, 1000), Share(12, 1000)).items()}
    {'value': 1.2, 'low': 0.53, 'high': 2.71}
    """
    if not before.count or not after.of:
        return None
    scale = before.of / after.of
    low, high = Share(after.count, after.count + before.count).interval()
    return {
        "value": scale * after.count / before.count,
        "low": scale * low / (1.0 - low),
        "high": scale * high / (1.0 - high),
    }
