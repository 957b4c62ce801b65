"""Event time as a clock, for replayed history."""

from __future__ import annotations

from monitor.observe.observations import Observations


class EventClock:
    """Gives the event time that the decisions seen by the monitor have reached."""

    seen: Observations | None = None

    def now_ms(self) -> int:
        """Return milliseconds since the epoch, UTC; 0 before the first decision."""
        return 0 if self.seen is None else self.seen.newest_event_ms

    def now_us(self) -> int:
        """Return microseconds since the epoch, UTC; 0 before the first decision."""
        return self.now_ms() * 1_000
