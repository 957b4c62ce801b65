"""Disturbances are spread over a run, each struck once, in an order that the seed gives."""

from __future__ import annotations

import random

from loadtest.proof.chaos import Chaos, Disturbance


def test_each_strikes_once_when_its_moment_has_come() -> None:
    struck: list[str] = []

    def strike(name: str) -> float:
        struck.append(name)
        return 0.5

    plan = [Disturbance(str(n), lambda n=n: strike(str(n))) for n in range(5)]  # type: ignore[misc]
    chaos = Chaos(plan, 6_000, random.Random(1))
    for done in range(0, 6_000, 10):
        chaos.strike_if_due(done)
    assert sorted(struck) == ["0", "1", "2", "3", "4"]
    assert not chaos.pending
    after = [each["after_rows"] for each in chaos.recoveries]
    assert after == sorted(after)
    assert after[-1] - after[0] > 2_000
    assert all(each["seconds"] == 0.5 for each in chaos.recoveries)


def test_nothing_planned_strikes_nothing() -> None:
    chaos = Chaos((), 100, random.Random(1))
    assert not chaos.pending
    assert not chaos.strike_if_due(100)
