"""Replayed history: the monitor's time is that of the newest decision, whatever the wall says."""

from __future__ import annotations

from monitor.event_clock import EventClock
from monitor.observe.observations import MemoryLimits, Observations
from runtime.kafka.protocols import Message
from schemas.currency import CurrencyTable
from schemas.topics import DECISIONS
from tests.support.monitor.traffic import decision_message

HOUR = 3_600_000
THEN = 480_000 * HOUR
WALL = THEN + 9_000 * HOUR


def observed(seen: Observations, clock: EventClock, *hours: int) -> None:
    for number, hour in enumerate(hours):
        seen.advance(clock.now_ms())
        value = decision_message(number, 0.1, THEN + hour * HOUR, "m")
        assert seen.sees_decisions([Message(DECISIONS.name, 0, number, WALL, b"", value)]) == 0


def test_time_goes_by_the_newest_decision() -> None:
    clock = EventClock()
    assert clock.now_ms() == 0
    seen = Observations(MemoryLimits(), CurrencyTable("EUR", {}), replayed=True)
    clock.seen = seen
    observed(seen, clock, 1, 3, 2)
    assert clock.now_ms() == THEN + 3 * HOUR
    assert seen.freshness.newest_ms[DECISIONS.name] <= clock.now_ms()


def test_a_stray_of_today_does_not_move_it() -> None:
    clock = EventClock()
    seen = Observations(MemoryLimits(), CurrencyTable("EUR", {}), replayed=True)
    clock.seen = seen
    observed(seen, clock, *range(60), 9_000, 61)
    assert THEN + 58 * HOUR <= clock.now_ms() <= THEN + 61 * HOUR
