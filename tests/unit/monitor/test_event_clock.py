"""Replayed history: the monitor's time is that of the newest decision, whatever the wall says."""

from __future__ import annotations

from monitor.observe import Memory, Observations
from monitor.run import EventClock
from schemas.currency import CurrencyTable
from schemas.runtime.streams import Message
from schemas.topics import DECISIONS
from tests.unit.monitor.traffic import decision_message

HOUR = 3_600_000
THEN = 480_000 * HOUR
WALL = THEN + 9_000 * HOUR


def test_time_goes_by_the_newest_decision() -> None:
    clock = EventClock()
    assert clock.now_ms() == 0
    seen = Observations(Memory(), CurrencyTable("EUR", {}), replayed=True)
    clock.seen = seen
    for hours in (1, 3, 2):
        seen.advance(clock.now_ms())
        value = decision_message(hours, 0.1, THEN + hours * HOUR, "m")
        assert seen.sees_decisions([Message(DECISIONS.name, 0, hours, WALL, b"", value)]) == 0
    assert clock.now_ms() == THEN + 3 * HOUR
    assert seen.freshness.newest_ms[DECISIONS.name] <= clock.now_ms()
