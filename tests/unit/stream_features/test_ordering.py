"""Laws of the merge across partitions, the bounded hold-back and the watermark limit."""

from __future__ import annotations

import heapq

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_features.worker.ordering import (
    NO_LIMIT,
    NO_TIME,
    HoldBack,
    merge_by_heads,
    watermark_limit,
)

Event = tuple[int, bytes]
EVENTS = st.tuples(st.integers(0, 6), st.sampled_from([b"2", b"10", b"9", b"a1", b"\xff"]))
PARTITIONS = st.lists(st.lists(EVENTS, max_size=8), min_size=1, max_size=4)


def merge(
    partitions: list[list[Event]], unread: list[bool] | None = None
) -> list[tuple[int, Event]]:
    """Merge, with the partitions' rows interleaved in the input; return (partition, event)."""
    rows = [
        (number, event)
        for place in range(max(map(len, partitions), default=0))
        for number, events in enumerate(partitions)
        for event in events[place : place + 1]
    ]
    order = merge_by_heads(
        np.array([event[0] for _, event in rows], np.int64),
        [event[1] for _, event in rows],
        np.array([number for number, _ in rows], np.int64),
        np.array(unread or [False] * len(partitions)),
    )
    return [rows[row] for row in order]


def key(event: Event) -> tuple[int, int, bytes]:
    return event[0], len(event[1]), event[1]


@settings(deadline=None)
@given(PARTITIONS)
def test_each_partition_keeps_its_offset_order_and_nothing_is_lost(
    partitions: list[list[Event]],
) -> None:
    merged = merge(partitions)
    for number, events in enumerate(partitions):
        assert [event for home, event in merged if home == number] == events


@settings(deadline=None)
@given(PARTITIONS)
def test_sorted_partitions_merge_to_the_sorted_whole(partitions: list[list[Event]]) -> None:
    ordered = [sorted(events, key=key) for events in partitions]
    assert [event for _, event in merge(ordered)] == list(heapq.merge(*ordered, key=key))


@settings(deadline=None)
@given(PARTITIONS, st.data())
def test_a_cut_anywhere_gives_the_same_order(
    partitions: list[list[Event]], data: st.DataObject
) -> None:
    """Records that arrive later, in any pieces, do not change the order of the whole."""
    whole = merge(partitions)
    cuts = [data.draw(st.integers(0, len(events))) for events in partitions]
    arrived = [events[:cut] for events, cut in zip(partitions, cuts, strict=True)]
    first = merge(
        arrived, [cut < len(events) for events, cut in zip(partitions, cuts, strict=True)]
    )
    done = [sum(home == number for home, _ in first) for number in range(len(partitions))]
    rest = merge([events[count:] for events, count in zip(partitions, done, strict=True)])
    assert first + rest == whole


def test_decimal_ids_of_one_moment_keep_their_numeric_order() -> None:
    assert [event[1] for _, event in merge([[(1, b"10")], [(1, b"9")]])] == [b"9", b"10"]


def test_a_rejected_record_holds_nobody_up() -> None:
    merged = merge([[(NO_TIME, b""), (5, b"a")], [(3, b"b")]])
    assert [event[1] for _, event in merged] == [b"", b"b", b"a"]


def looks(hold: HoldBack, start: float, end: float, step: float = 0.05) -> frozenset[int]:
    """Look from `start` to `end` (s) at a partition 1 that is silent; return the last answer."""
    positions, ends = {0: 10, 1: 5}, {0: 10, 1: 8}
    blocking: frozenset[int] = frozenset()
    for at in np.arange(start, end + step / 2, step):
        blocking = hold.unread(positions, ends, [0], now=float(at))
    return blocking


def test_an_unread_partition_without_rows_blocks_only_for_a_bounded_time() -> None:
    hold = HoldBack(max_wait=2.0)
    assert looks(hold, 100.0, 101.9) == {1}
    assert hold.overdue == frozenset()
    assert looks(hold, 101.95, 103.0) == frozenset()
    assert hold.overdue == {1}


def test_time_in_which_nobody_asked_does_not_count() -> None:
    hold = HoldBack(max_wait=2.0)
    assert looks(hold, 100.0, 101.0) == {1}
    assert looks(hold, 160.0, 160.8) == {1}, "a store was away for a minute"
    assert looks(hold, 160.85, 161.2) == frozenset()


def test_a_broker_that_starts_again_is_waited_for() -> None:
    hold = HoldBack()
    assert looks(hold, 0.0, 14.0) == {1}
    assert looks(hold, 14.05, 16.0) == frozenset(), "15 s: a partition that stays silent is passed"


def test_the_wait_starts_anew_when_records_came() -> None:
    hold = HoldBack(max_wait=2.0)
    assert looks(hold, 0.0, 1.5) == {1}
    assert hold.unread({1: 6}, {1: 8}, [1], now=1.55) == {1}
    assert looks(hold, 1.6, 3.5) == {1}


def test_a_partition_of_unknown_end_counts_as_unread() -> None:
    assert HoldBack().unread({3: 0}, {}, [], now=0.0) == {3}


def test_at_the_live_edge_nothing_is_held_back() -> None:
    assert HoldBack().unread({0: 4, 1: 9}, {0: 4, 1: 9}, [0], now=0.0) == frozenset()


def test_a_worker_in_catch_up_may_be_a_minute_ahead_of_the_slowest() -> None:
    assert watermark_limit(True, [1_000_000, 2_000_000]) == 1_060_000
    assert watermark_limit(True, []) == NO_LIMIT
    assert watermark_limit(False, [1_000_000]) == NO_LIMIT
