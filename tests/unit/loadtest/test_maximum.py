"""The search finds the highest rate that is held, within its time."""

from __future__ import annotations

import pytest

from loadtest.measure.maximum import RateSearch, Try, find


class Machine:
    """Holds up to `capacity` in short tries and `lasting` in long ones; its clock is its own."""

    def __init__(self, capacity: float, lasting: float | None = None) -> None:
        self.capacity = capacity
        self.lasting = capacity if lasting is None else lasting
        self.now = 0.0
        self.tries: list[Try] = []

    def attempt(self, rate: float, seconds: float) -> Try:
        self.now += seconds
        capacity = self.lasting if seconds >= 30 else self.capacity
        self.tries.append(Try(rate, seconds, rate <= capacity, 10.0, min(rate, capacity)))
        return self.tries[-1]

    def clock(self) -> float:
        return self.now


@pytest.mark.parametrize("capacity", [700.0, 2_500.0, 17_000.0, 90_000.0])
def test_it_comes_close_to_what_is_held(capacity: float) -> None:
    machine = Machine(capacity)
    found = find(RateSearch(), machine.attempt, machine.clock)
    assert found.held
    assert found.seconds == 30.0
    assert capacity / 1.1 <= found.rate <= capacity


def test_a_rate_that_only_short_tries_held_is_lowered() -> None:
    machine = Machine(20_000.0, lasting=17_000.0)
    found = find(RateSearch(), machine.attempt, machine.clock)
    assert found.held
    assert 16_000 < found.rate <= 17_000
    assert sum(each.seconds == 30.0 for each in machine.tries) == 2


def test_it_ends_when_its_time_is_over() -> None:
    machine = Machine(20_000.0, lasting=0.0)
    found = find(RateSearch(budget_s=60.0), machine.attempt, machine.clock)
    assert not found.held
    assert machine.now <= 60.0 + 2 * 30.0 + 6.0


def test_nothing_is_held() -> None:
    machine = Machine(0.0)
    assert not find(RateSearch(budget_s=60.0), machine.attempt, machine.clock).held
