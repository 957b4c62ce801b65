"""Arrival times and places of records that other producers set."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from runtime.kafka.partitioner import partition_of, partitions_of
from runtime.metrics import Metrics, read_exposition
from stream_features.worker.arrival_times import OLDEST_MS, arrival_times
from stream_features.worker.placement import TELL_EVERY_S, Placement
from tests.support.stream_features.stand_ins import NOW, Record


def misplaced(metrics: Metrics) -> float:
    [found] = [
        value
        for name, _, value in read_exposition(metrics.exposition().decode())
        if name == "fraud_misplaced_total"
    ]
    return found


# What Apache Kafka's own test of `Utils.murmur2` expects, without the sign.
@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_partitioner_is_kafka_s(key: bytes, hashed: int) -> None:
    assert partition_of(key, 2**31) == hashed & 0x7FFFFFFF
    assert partition_of(key, 7) == (hashed & 0x7FFFFFFF) % 7


@given(st.lists(st.binary(max_size=20)), st.integers(1, 300))
def test_many_keys_lead_where_each_leads(keys: list[bytes], partitions: int) -> None:
    found = partitions_of(keys, partitions).tolist()
    assert found == [partition_of(key, partitions) for key in keys]


def test_misplaced_cards_are_counted_and_told_once_a_minute() -> None:
    metrics, now = Metrics("test"), [0.0]
    placement = Placement("t", 4, metrics, lambda: now[0])
    cards = [b"card-%d" % number for number in range(40)]
    right = partitions_of(cards, 4)
    with capture_logs() as logs:
        placement.check(cards, right)
        placement.check([], np.empty(0, np.int64))
        assert (misplaced(metrics), logs) == (0, [])
        wrong = right.copy()
        wrong[[3, 7]] = (wrong[[3, 7]] + 1) % 4
        placement.check(cards, wrong)
        placement.check(cards, wrong)
        now[0] = TELL_EVERY_S
        placement.check(cards, wrong)
    assert misplaced(metrics) == 6
    assert [(each["topic"], each["messages"]) for each in logs] == [("t", 2), ("t", 4)]


def test_the_broker_s_time_is_believed() -> None:
    records = [Record("t", 0, number, b"", timestamp=NOW - number) for number in range(3)]
    latest, likely = arrival_times(records, NOW + 99)
    assert latest.tolist() == likely.tolist() == [NOW, NOW - 1, NOW - 2]


def test_a_producer_s_time_bounds_nothing_and_shows_latency_if_it_can_be_right() -> None:
    stamps = [-1, 0, NOW // 1000, NOW * 1000, NOW + 1, NOW - OLDEST_MS, NOW - 5]
    records = [Record("t", 0, 0, b"", timestamp=stamp, timestamp_type=0) for stamp in stamps] + [
        Record("t", 0, 0, b"", timestamp=NOW - 7)
    ]
    latest, likely = arrival_times(records, NOW)
    assert latest.tolist() == [NOW] * 7 + [NOW - 7]
    assert likely.tolist() == [NOW] * 6 + [NOW - 5, NOW - 7]
