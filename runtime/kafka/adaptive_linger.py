"""Whether records come so densely that waiting for more of them pays. Used by both hot services.

With company, a wait of a millisecond or two saves broker and service as many turns as records come
in it; a lone record only gets later by it.
"""

from __future__ import annotations

from typing import Final

CROWDED: Final = 300.0
"""Records a second from which on they come densely."""
JUDGED_S: Final = 0.1


class Crowd:
    """Counts records; judges anew every JUDGED_S.

    >>> crowd = Crowd()
    >>> [crowd.dense(count, now) for count, now in ((1, 0.0), (40, 0.05), (40, 0.2), (1, 0.4))]
    [False, False, True, False]
    """

    def __init__(self) -> None:
        self._came = 0
        self._since: float | None = None
        self._dense = False

    def dense(self, came: int, now: float) -> bool:
        """Note that `came` records came by `now` (seconds); return whether they come densely."""
        if self._since is None:
            self._since = now
        self._came += came
        past = now - self._since
        if past >= JUDGED_S:
            self._dense = self._came >= CROWDED * past
            self._came, self._since = 0, now
        return self._dense
