"""Waiting for company: only where records come densely, and judged anew all the time."""

from __future__ import annotations

import pytest

from runtime.kafka.adaptive_linger import DENSE_PER_S, JUDGE_EVERY_S, AdaptiveLinger


@pytest.mark.parametrize(("rate", "dense"), [(DENSE_PER_S * 2, True), (DENSE_PER_S / 2, False)])
def test_a_rate_is_judged(rate: float, dense: bool) -> None:
    linger = AdaptiveLinger()
    step = JUDGE_EVERY_S / 10
    judged = [linger.dense(round(rate * step), number * step) for number in range(50)]
    assert judged[-1] is dense
    assert not judged[0]


def test_it_is_forgotten_when_fewer_come() -> None:
    linger = AdaptiveLinger()
    for number in range(10):
        linger.dense(100, number * JUDGE_EVERY_S)
    assert linger.dense(100, 10 * JUDGE_EVERY_S)
    assert not linger.dense(1, 12 * JUDGE_EVERY_S)
