"""The quality join: known answers, and any order of arrival gives the same table.

Only labels of one transaction and time keep their order, by which the last one counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.observe.cells import auc
from monitor.observe.quality import SEGMENTS, Quality
from schemas.features import DAY, HOUR

NOW = 1_700_000_000_000 // HOUR * HOUR
MODELS = {11: "champion", 12: "canary"}


def quality(**sizes: int) -> Quality:
    made = Quality(**({"approved": 64, "flagged": 64, "waiting": 64} | sizes), hours=48)
    made.advance(NOW)
    return made


def decide(
    into: Quality, key: int, action: int = 2, score: float = 0.9, model: int = 11, ago: int = 0,
    amount: int = 100,
) -> None:  # fmt: skip
    into.add_decisions(
        np.array([key], np.uint64), np.array([NOW - ago * HOUR]), np.array([model], np.uint64),
        MODELS, np.array([action], np.uint8), np.array([score]), np.array([amount]),
    )  # fmt: skip


def label(into: Quality, key: int, fraud: bool, time: int = 1) -> None:
    into.add_labels(np.array([key], np.uint64), np.array([fraud]), np.array([time]))


def channel(into: Quality, key: int, code: int) -> None:
    into.add_channels(np.array([key], np.uint64), np.array([code]))


def table(of: Quality, now: int = NOW) -> dict[Any, Any]:
    return {
        (row.model_id, row.segment, row.hour): (
            row.cell.numbers.tolist(), row.cell.histograms.tolist()
        )
        for row in of.rows(now)
    }  # fmt: skip


def test_figures_of_an_hour_by_hand() -> None:
    made = quality()
    actions = [2, 2, 2, 1, 1, 0, 0, 0]
    frauds = [True, True, False, True, None, True, False, None]
    for key, (action, fraud) in enumerate(zip(actions, frauds, strict=True), start=1):
        decide(made, key, action, score=[0.1, 0.8, 0.99][action], amount=key)
        if fraud is not None:
            label(made, key, fraud)
    figures = made.total("champion", [NOW // HOUR], NOW).figures()
    assert figures["decisions"] == 8
    assert figures["block_precision"] == pytest.approx(2 / 3)
    assert figures["alert_precision"] == pytest.approx(3 / 4)
    assert figures["block_recall"] == pytest.approx(2 / 4)
    assert figures["alert_recall"] == pytest.approx(3 / 4)
    assert figures["alert_rate"] == pytest.approx(5 / 8)
    assert figures["coverage"] == pytest.approx(6 / 8)
    assert figures["blocked_value"] == 1 + 2 + 3
    assert figures["blocked_fraud_value"] == 1 + 2
    assert figures["missed_fraud_value"] == 6
    # frauds at .99 .99 .8 .1 against genuine at .99 .1: (1.5 + 1.5 + 1 + 0.5) / 8
    assert figures["auc"] == pytest.approx(4.5 / 8)


def test_unlabelled_count_as_genuine_when_the_label_delay_has_passed() -> None:
    made = quality()
    decide(made, 1)
    decide(made, 2)
    label(made, 1, True)
    hours = [NOW // HOUR]
    assert made.total("champion", hours, NOW).precision(2) == 1.0
    later = NOW + HOUR + 7 * DAY
    assert made.total("champion", hours, later - 1).precision(2) == 1.0
    assert made.total("champion", hours, later).precision(2) == 0.5
    assert made.total("champion", hours, later).coverage == 0.5


def test_a_changed_label_corrects_the_cell_and_the_newest_wins() -> None:
    made = quality()
    decide(made, 1)
    label(made, 1, True, time=5)
    label(made, 1, False, time=9)
    label(made, 1, True, time=7)
    cell = made.total("champion", [NOW // HOUR], NOW)
    assert (cell.fraud(2), cell.genuine(2)) == (0, 1)
    assert made.counters()["flipped"] == 1


def test_of_equally_new_labels_the_last_one_counts() -> None:
    made = quality()
    decide(made, 1)
    for fraud in (True, True, False, False):
        label(made, 1, fraud, time=5)
    cell = made.total("champion", [NOW // HOUR], NOW)
    assert (cell.fraud(2), cell.genuine(2)) == (0, 1)
    assert made.counters()["flipped"] == 1


def test_what_falls_out_is_counted_and_memory_does_not_grow() -> None:
    made = quality(approved=8, waiting=8)
    before = made.nbytes
    for key in range(1, 101):
        decide(made, key, action=0)
    for key in range(1, 101):
        label(made, key, True)
    counted = made.counters()
    cell = made.total("champion", [NOW // HOUR], NOW)
    assert cell.decided == 100
    assert cell.fraud(0) == 8  # the newest eight
    assert counted["forgotten"] == 92
    assert counted["unmatched"] == 92 - 8  # the last eight labels still wait
    assert made.nbytes == before


def test_a_record_lost_before_its_label_could_come_is_not_called_genuine() -> None:
    made = quality(flagged=2)
    for key in range(1, 5):
        decide(made, key)
    label(made, 4, True)
    later = NOW + HOUR + 7 * DAY
    cell = made.total("champion", [NOW // HOUR], later)
    assert (cell.decided, cell.genuine(2), cell.fraud(2)) == (4, 1, 1)
    assert made.counters()["forgotten"] == 2


def test_flagged_decisions_outlive_approved_ones() -> None:
    made = quality(approved=8)
    decide(made, 1, action=2)
    for key in range(2, 100):
        decide(made, key, action=0)
    label(made, 1, True)
    assert made.total("champion", [NOW // HOUR], NOW).precision(2) == 1.0


def test_hours_that_are_no_longer_kept_are_dropped() -> None:
    made = quality()
    decide(made, 1, ago=40)
    decide(made, 2, ago=48)
    assert made.counters()["out_of_range"] == 1
    made.advance(NOW + 10 * HOUR)
    assert table(made) == {}
    label(made, 1, True)
    assert made.counters()["unmatched"] == 1
    assert table(made) == {}


def test_the_seventeenth_model_takes_the_place_of_the_one_unseen_for_longest() -> None:
    made = quality()
    names = {number: f"m{number}" for number in range(1, 18)}
    for number in names:
        made.add_decisions(
            np.array([number], np.uint64), np.array([NOW]), np.array([number], np.uint64), names,
            np.array([2], np.uint8), np.array([0.9]), np.array([1]),
        )  # fmt: skip
    assert set(made.models) == set(names.values()) - {"m1"}
    label(made, 1, True)  # its cells are gone, nobody else's change
    assert made.total("m17", [NOW // HOUR], NOW).fraud(2) == 0
    label(made, 17, True)
    assert made.total("m17", [NOW // HOUR], NOW).fraud(2) == 1


def test_auc_of_histograms_is_the_rank_statistic() -> None:
    draw = np.random.default_rng(3)
    genuine, fraud = draw.integers(0, 8, 50), draw.integers(2, 10, 30)
    wins = (fraud[:, None] > genuine).sum() + 0.5 * (fraud[:, None] == genuine).sum()
    found = auc(np.bincount(genuine, minlength=10), np.bincount(fraud, minlength=10))
    assert found == pytest.approx(wins / (50 * 30))


EVENTS = st.lists(
    st.tuples(
        st.integers(1, 6),  # transaction
        st.integers(0, 2),  # action
        st.sampled_from([11, 12, 0]),
        st.integers(0, 5),  # hours ago
        st.none() | st.integers(0, 4),  # channel
        st.lists(
            st.tuples(st.booleans(), st.integers(0, 9)), max_size=3, unique_by=lambda each: each[1]
        ),  # labels
    ),
    max_size=6,
    unique_by=lambda each: each[0],
)


@given(events=EVENTS, data=st.data())
@settings(deadline=None)
def test_any_order_of_arrival_gives_the_same_table(events: Any, data: st.DataObject) -> None:
    steps: list[Any] = []
    for key, action, model, ago, code, labels in events:
        steps.append(lambda q, a=(key, action, 0.5, model, ago): decide(q, *a))
        steps += [lambda q, a=(key, *each): label(q, *a) for each in labels]
        if code is not None:
            steps.append(lambda q, a=(key, code): channel(q, *a))
    tables = []
    for order in (steps, data.draw(st.permutations(steps))):
        made = quality()
        for step in order:
            step(made)
        tables.append(table(made))
    assert tables[0] == tables[1]
    assert sum(sum(numbers[:12]) for numbers, _ in tables[0].values()) == len(events)
    channels = {code for *_, code, _labels in events if code is not None}
    assert {key[1] for key in tables[0]} <= {SEGMENTS[code] for code in channels} | {"UNKNOWN"}


@given(keys=st.lists(st.integers(1, 40), max_size=300))
@settings(deadline=None)
def test_the_table_finds_every_record_that_is_kept(keys: list[int]) -> None:
    made = quality(approved=16)
    kept: dict[int, None] = {}
    for key in keys:
        if key not in kept:
            kept[key] = None
            if len(kept) > 16:
                kept.pop(next(iter(kept)))
        decide(made, key, action=0)
    before = made.total("champion", [NOW // HOUR], NOW).labelled
    for key in kept:
        label(made, key, False)
    assert before == 0
    assert made.total("champion", [NOW // HOUR], NOW).labelled == len(kept)


def test_missed_frauds_count_in_the_hour_in_which_they_become_known() -> None:
    made = quality()
    decide(made, 1, action=0, ago=5)
    decide(made, 2, action=2, ago=5)
    for key in (1, 2, 3):  # 2 was blocked, 3 comes before its decision
        label(made, key, True, NOW - 2 * HOUR)
    decide(made, 3, action=0)
    label(made, 1, True, NOW)  # said again
    decide(made, 4, action=0)
    label(made, 4, False, NOW)
    hours, missed = made.hours(), made.missed()
    assert {hours[place]: missed[place] for place in np.flatnonzero(missed).tolist()} == {
        NOW // HOUR - 2: 2
    }
    made.advance(NOW + 60 * HOUR)
    assert not made.missed().any()


def test_a_model_that_takes_a_place_begins_with_nothing() -> None:
    made = quality()
    names = {number: f"m{number}" for number in range(1, 18)}
    for number in names:
        made.add_decisions(
            np.array([number], np.uint64), np.array([NOW]), np.array([number], np.uint64), names,
            np.array([2], np.uint8), np.array([0.9]), np.array([1]),
        )  # fmt: skip
        label(made, number, True)
    cell = made.total("m17", [NOW // HOUR], NOW)
    assert (cell.decided, cell.fraud(2), cell.histograms.sum()) == (1, 1, 1)


def test_a_model_that_decided_lately_keeps_its_place() -> None:
    made = quality()
    names = {number: f"m{number}" for number in range(1, 18)}
    for place, number in enumerate([*range(1, 17), 1, 17]):
        made.advance(NOW + (HOUR if place == 16 else 0))
        made.add_decisions(
            np.array([place + 1], np.uint64), np.array([NOW]), np.array([number], np.uint64),
            names, np.array([2], np.uint8), np.array([0.9]), np.array([1]),
        )  # fmt: skip
    assert set(made.models) == set(names.values()) - {"m2"}
    assert made.total("m1", [NOW // HOUR], NOW).decided == 2
