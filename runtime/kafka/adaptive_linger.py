"""Decides whether records arrive densely enough for a short wait to pay off.

In dense traffic, a wait of a millisecond or two gathers several records into one batch and saves
a round for each of them. A lone record gains nothing from the wait and is only delayed by it.
"""

from __future__ import annotations

from typing import Final

DENSE_PER_S: Final = 300.0
"""Records per second at and above which traffic counts as dense."""
JUDGE_EVERY_S: Final = 0.1
"""Seconds over which records are counted before the rate is judged again."""


class AdaptiveLinger:
    """Measures the rate of records and reports whether traffic is dense.

    >>> linger = AdaptiveLinger()
    >>> [linger.dense(count, now) for count, now in ((1, 0.0), (40, 0.05), (40, 0.2), (1, 0.4))]
    [False, False, True, False]
    """

    def __init__(self) -> None:
        self._came = 0
        self._since: float | None = None
        self._dense = False

    def dense(self, came: int, now: float) -> bool:
        """Count `came` records that had arrived by `now` (s); return whether traffic is dense."""
        if self._since is None:
            self._since = now
        self._came += came
        past = now - self._since
        if past >= JUDGE_EVERY_S:
            self._dense = self._came >= DENSE_PER_S * past
            self._came, self._since = 0, now
        return self._dense
