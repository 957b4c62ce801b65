"""Waiting for company: only where records come densely, and judged anew all the time."""

from __future__ import annotations

import pytest

from runtime.kafka.adaptive_linger import CROWDED, JUDGED_S, Crowd


@pytest.mark.parametrize(("rate", "dense"), [(CROWDED * 2, True), (CROWDED / 2, False)])
def test_a_rate_is_judged(rate: float, dense: bool) -> None:
    crowd = Crowd()
    step = JUDGED_S / 10
    judged = [crowd.dense(round(rate * step), number * step) for number in range(50)]
    assert judged[-1] is dense
    assert not judged[0]


def test_it_is_forgotten_when_fewer_come() -> None:
    crowd = Crowd()
    for number in range(10):
        crowd.dense(100, number * JUDGED_S)
    assert crowd.dense(100, 10 * JUDGED_S)
    assert not crowd.dense(1, 12 * JUDGED_S)
