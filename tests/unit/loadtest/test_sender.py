"""Pacing is open loop: due times come from the order alone, whatever the answers do."""

from __future__ import annotations

import numpy as np
import pytest

from loadtest.traffic.sender import Order, Pacer

TIMES = np.array([1_000, 1_000, 61_000, 121_000])


def test_due_times_follow_the_rate_and_the_seed_alone() -> None:
    order = Order(rate=1_000.0, seconds=10.0)
    whole = Pacer(order, seed=3).due(np.zeros(10_000, np.int64))
    assert whole[-1] == pytest.approx(10e9, rel=0.05)
    assert bool((np.diff(whole) >= 0).all())
    pieces = Pacer(order, seed=3)
    cut = np.concatenate([pieces.due(np.zeros(n, np.int64)) for n in (1, 99, 900, 9_000)])
    assert bool((np.abs(cut - whole) <= 1).all())  # rounding of running sums
    assert not np.array_equal(whole, Pacer(order, seed=4).due(np.zeros(10_000, np.int64)))


def test_arrivals_are_a_poisson_stream() -> None:
    due = Pacer(Order(rate=1_000.0), seed=3).due(np.zeros(50_000, np.int64))
    gaps = np.diff(due) / 1e6
    assert gaps.mean() == pytest.approx(1.0, rel=0.03)
    assert gaps.std() == pytest.approx(1.0, rel=0.05)


def test_a_file_in_its_own_time_keeps_its_gaps() -> None:
    due = Pacer(Order(speedup=60.0), seed=3).due(TIMES)
    assert due.tolist() == [0, 0, 1_000_000_000, 2_000_000_000]


def test_a_file_in_its_own_time_goes_on_over_pieces() -> None:
    pacer = Pacer(Order(speedup=60.0), seed=3)
    pacer.due(TIMES[:2])
    assert pacer.due(TIMES[2:]).tolist() == [1_000_000_000, 2_000_000_000]


def test_flat_out_all_is_due_at_once() -> None:
    assert Pacer(Order(count=4), seed=3).due(TIMES).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("order", [Order(rate=5.0), Order(speedup=2.0), Order(count=5)])
def test_nothing_is_due_at_the_end_of_a_file(order: Order) -> None:
    assert len(Pacer(order, seed=3).due(np.zeros(0, np.int64))) == 0


@pytest.mark.parametrize(
    ("order", "rows"),
    [
        (Order(rate=100.0, seconds=2.5), 250),
        (Order(count=7), 7),
        (Order(rate=100.0), None),
        (Order(speedup=2.0), None),
    ],
)
def test_an_order_knows_its_rows(order: Order, rows: int | None) -> None:
    assert order.rows() == rows
