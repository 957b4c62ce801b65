"""Transactions are processed in the order of their times; ties have an order, too."""

from __future__ import annotations

import pyarrow as pa

from schemas.mapping.event_order import event_order


def test_ties_are_ordered_by_length_and_text_of_the_id() -> None:
    table = pa.table({"transaction_id": ["10", "9", "b", "1"], "event_time": [5, 5, 5, 4]})
    assert event_order(table).tolist() == [3, 1, 2, 0]


def test_only_ties_out_of_order_move() -> None:
    ids = ["2", "1", "x", "5", "7", "6", "3", "4"]
    times = [1, 1, 2, 3, 3, 3, 4, 4]
    table = pa.table({"transaction_id": ids, "event_time": times})
    assert event_order(table).tolist() == [1, 0, 2, 3, 5, 4, 6, 7]
