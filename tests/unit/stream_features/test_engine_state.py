"""The state of one entity at its contract: scans, moments, tiles, seen values, marks, labels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from schemas.hash_table import new_table
from stream_features.engine.passes.fraud_labels import (
    ADDED,
    NOTHING,
    PENDING,
    REMOVED,
    resolve_labels,
)
from stream_features.engine.passes.shared_rows import put_event
from stream_features.engine.state.entities import (
    CAPACITY,
    DEVICE,
    EVENTS,
    HOT_ROW,
    IP,
    MARK_START,
    MARK_TIME,
    MARK_TRANSACTION,
    MARKED,
    MERCHANT,
    NEWEST,
    SEEN_COUNT,
    SEEN_TIME,
    SEEN_VALUE,
    START,
    TILE_COUNT,
    TILE_EVENTS,
    TILE_FRAUDS,
    TILE_MAX,
    TILE_SUM,
    TILE_TIME,
    TIME,
    TRANSACTION,
    Table,
    add_mark,
    assign_slots,
    drop_marks,
    new_tables,
    open_place,
    prune,
    take_out,
)
from stream_features.engine.state.fold import add_tile, fold, fold_frauds, see, tile_width
from stream_features.engine.statistics.card import great_circle_km
from stream_features.engine.statistics.hours import hour_deviation
from stream_features.engine.statistics.moments import with_tiles
from stream_features.engine.statistics.scans import squared_deviations, window_starts

HOUR, DAY = 3_600_000, 86_400_000
WEEK, KEEP = 7 * DAY, 37 * DAY
START_MS = 1_700_006_400_000
"""15 November 2023, 00:00 UTC."""


def with_slot(table: Table) -> Table:
    """Give the table one entity, in slot 0."""
    keys, slots = np.zeros(4, np.uint64), np.empty(1, np.int64)
    assign_slots(new_table(len(keys)), keys, np.ones(1, np.uint64), table, slots)
    return table


def merchant(times: list[int], amounts: list[int] | None = None, *, limit: int = 128) -> Table:
    """Return merchants with one entity that has these events."""
    table = with_slot(new_tables(shared_events=limit).merchant)
    for place, time in enumerate(times):
        put_event(table, 0, place, time, amounts[place] if amounts else 100, -1)
    table.slots[0, NEWEST] = max(times, default=0)
    return table


def tiles(table: Table, column: int) -> list[int]:
    row = table.slots[0, HOT_ROW]
    count = table.hot[row, TILE_COUNT]
    held: list[int] = table.tiles[row, column, :count].tolist()
    return held


def test_a_window_begins_after_its_edge_and_after_the_floor() -> None:
    times, windows = np.array([10, 20, 30]), np.array([10, 20])
    starts = np.zeros(2, np.int64)
    window_starts(times, 30, -(2**62), windows, starts)
    assert starts.tolist() == [2, 1]
    window_starts(times, 30, 20, windows, starts)
    assert starts.tolist() == [2, 2]


@pytest.mark.parametrize(("distance", "count"), [(3, 2), (2**40, 2), (2**27 - 1, 700)])
def test_squared_deviations_do_not_overflow(distance: int, count: int) -> None:
    values = np.tile(np.array([distance, -distance], np.int64), count // 2)
    assert squared_deviations(values, 0) == pytest.approx(float(count * distance**2), rel=1e-12)


def test_moments_of_events_and_tiles_are_those_of_all_their_amounts() -> None:
    folded, exact = [[100, 900], [50, 250, 3_000]], [700, 710, 5]
    table = merchant([])
    for number, some in enumerate(folded):
        m2 = float(np.var(some) * len(some))
        add_tile(table, 0, 1_000 * (number + 1), len(some), sum(some), max(some), m2, 0)
    n, total, squares = with_tiles(
        table, 0, len(exact), sum(exact), float(np.var(exact) * len(exact)), 0, 2_000
    )
    whole = [*folded[0], *folded[1], *exact]
    assert (n, total) == (8, sum(whole))
    assert squares == pytest.approx(np.var(whole) * 8, rel=1e-6)
    assert with_tiles(table, 0, 0, 0, 0.0, 1_000, 1_999) == (0, 0, 0.0)


def test_a_full_row_makes_one_tile_of_the_two_oldest() -> None:
    table = merchant([])
    table.slots[0, HOT_ROW] = 0
    for number in range(321):
        amount = [300, 100][number % 2]
        add_tile(table, 0, number, 1, amount, amount, 0.0, number < 2)
    assert table.hot[0, TILE_COUNT] == 320
    assert tiles(table, TILE_TIME)[:3] == [1, 2, 3]
    assert tiles(table, TILE_EVENTS)[:2] == [2, 1]
    assert tiles(table, TILE_SUM)[0] == 400
    assert tiles(table, TILE_MAX)[0] == 300
    assert tiles(table, TILE_FRAUDS)[0] == 2
    assert table.m2[0, 0] == 20_000


@pytest.mark.parametrize(
    ("age", "card", "shared"),
    [
        (5 * 60_000, 10_000, 150_000),
        (5 * 60_000 + 1, 150_000, 150_000),
        (HOUR + 1, HOUR, HOUR),
        (DAY + 1, 6 * HOUR, HOUR),
        (7 * DAY + 1, DAY, HOUR),
        (8 * DAY + 1, DAY, 6 * HOUR),
        (14 * DAY + 1, DAY, DAY),
    ],
)
def test_tiles_are_as_wide_as_the_age_of_their_events_allows(
    age: int, card: int, shared: int
) -> None:
    """Shared entities count frauds of windows that ended a label delay, a week, ago."""
    assert tile_width(age, True, WEEK) == card
    assert tile_width(age, False, WEEK) == shared


def test_an_entity_with_too_many_events_keeps_the_newest_half_and_tiles_of_the_rest() -> None:
    table = merchant([START_MS + HOUR * n for n in range(9)], [100 * n for n in range(9)], limit=8)
    assert fold(table, 0, KEEP, WEEK)
    assert table.slots[0, EVENTS] == 4
    assert sum(tiles(table, TILE_EVENTS)) == 5
    assert sum(tiles(table, TILE_SUM)) == 1_000
    assert not fold(table, 0, KEEP, WEEK)


def test_tiles_leave_with_the_retention() -> None:
    table = merchant([START_MS + n for n in range(9)], limit=8)
    fold(table, 0, KEEP, WEEK)
    later = START_MS + 8 + KEEP
    for n in range(9):
        put_event(table, 0, table.slots[0, EVENTS], later + n, 100, -1)
    table.slots[0, NEWEST] = later + 8
    fold(table, 0, KEEP, WEEK)
    assert min(tiles(table, TILE_TIME)) >= later


def test_a_value_is_seen_when_it_was_seen_last_and_the_oldest_makes_room() -> None:
    table = merchant([])
    for value in range(1, 129):
        see(table, 0, 0, value, 1_000 + value)
    see(table, 0, 0, 1, 5_000)
    see(table, 0, 0, 1, 10)
    see(table, 0, 0, 600, 6_000)
    see(table, 0, 0, 500, 10)  # older than all that is held
    seen = dict(
        zip(table.seen[0, SEEN_VALUE].tolist(), table.seen[0, SEEN_TIME].tolist(), strict=True)
    )
    assert table.hot[0, SEEN_COUNT] == 128
    assert seen[1] == 5_000
    assert seen[600] == 6_000
    assert seen.keys() == {1, 600, *range(3, 129)}


def test_a_full_list_of_frauds_is_folded_by_age_whatever_order_they_came_in() -> None:
    table = merchant([START_MS + DAY])
    for number in range(128):
        assert add_mark(table, 0, START_MS + 1_000 * (127 - number), number)
    assert not add_mark(table, 0, START_MS, 9_999)
    assert fold_frauds(table, 0, KEEP, WEEK)
    assert sum(tiles(table, TILE_FRAUDS)) == 64
    assert sum(tiles(table, TILE_EVENTS)) == 0
    assert table.slots[0, MARKED] == 64
    first = table.slots[0, MARK_START]
    kept = table.marks[MARK_TIME, first : first + 64]
    assert sorted(kept.tolist()) == [START_MS + 1_000 * n for n in range(64, 128)]
    assert not fold_frauds(table, 0, KEEP, WEEK)


def test_marks_and_events_at_the_horizon_go() -> None:
    table = merchant([10, 20, 20, 30])
    for number, time in enumerate([10, 20, 30]):
        add_mark(table, 0, time, number)
    drop_marks(table, 0, 20)
    assert table.slots[0, MARKED] == 1
    prune(table, 0, 20)
    assert table.slots[0, EVENTS] == 1
    assert table.pool[table.slots[0, START]] == 30


def test_an_event_taken_out_leaves_the_others_in_their_order() -> None:
    table = merchant([10, 20, 30, 40])
    take_out(table, 0, 1)
    start = table.slots[0, START]
    assert table.pool[start : start + 3].tolist() == [10, 30, 40]
    assert table.slots[0, EVENTS] == 3


def test_the_usual_hour_needs_three_events_and_goes_round_midnight() -> None:
    times = [START_MS + hour * HOUR for hour in (22, 24, 26)]
    table = merchant(times)
    moment = START_MS + DAY + 5 * HOUR
    assert hour_deviation(table, 0, np.array(times), 0, moment) == pytest.approx(5)
    assert math.isnan(hour_deviation(table, 0, np.array(times), 1, moment))


def test_kilometres_between_two_places() -> None:
    """Berlin and Paris: 878 km."""

    def packed(latitude: float, longitude: float) -> int:
        high, low = (round(degrees * 1e7) + 2**31 for degrees in (latitude, longitude))
        return high << 32 | low

    berlin, paris = packed(52.52, 13.405), packed(48.8566, 2.3522)
    assert great_circle_km(berlin, paris) == pytest.approx(877.5, abs=0.5)


class Card:
    """A card with one transaction, number 77, on merchant 5, device 6 and address 7."""

    def __init__(self) -> None:
        self.table = with_slot(new_tables().card)
        open_place(self.table, 0, 0)
        start = self.table.slots[0, START]
        capacity = self.table.slots[0, CAPACITY]
        fields = {TIME: START_MS, TRANSACTION: 77, MERCHANT: 5, DEVICE: 6, IP: 7}
        for column, value in fields.items():
            self.table.pool[start + column * capacity] = value
        self.table.slots[0, NEWEST] = START_MS
        self.found = np.zeros((1, 4), np.int64)

    def label(self, transaction: int, fraud: bool, time: int = START_MS) -> int:
        outcome = np.full(1, 99, np.uint8)
        done = resolve_labels(
            self.table,
            np.zeros(1, np.int64),
            np.array([transaction], np.uint64),
            np.array([time], np.int64),
            np.array([fraud]),
            WEEK,
            outcome,
            self.found,
            0,
        )
        assert done == 1
        return int(outcome[0])


def test_a_repeated_label_changes_nothing_and_the_last_one_wins() -> None:
    """The merchant may have folded the fraud away and could not tell that it counts twice."""
    card = Card()
    assert card.label(77, True) == ADDED
    assert card.found.tolist() == [[5, 6, 7, START_MS]]
    assert card.label(77, True) == NOTHING
    assert card.label(77, False) == REMOVED
    assert card.label(77, False) == NOTHING
    assert card.label(77, True) == ADDED


def test_an_early_label_waits_unless_its_transaction_would_be_too_late() -> None:
    card = Card()
    assert card.label(1, True, START_MS - KEEP) == NOTHING
    assert card.label(2, True, START_MS - KEEP + 1) == PENDING
    assert card.table.slots[0, MARKED] == 1
    assert card.label(2, False) == NOTHING
    assert card.table.slots[0, MARKED] == 0
    assert 2 in card.table.marks[MARK_TRANSACTION]
