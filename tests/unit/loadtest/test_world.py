"""The world is seeded, believable, and its new pattern changes later days only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from loadtest.world.world import World, parse_day

DAY = parse_day("2025-03-03")  # a Monday
DAYS = 14
CUSTOMERS = 2_000


@pytest.fixture(scope="module")
def fortnight() -> pa.Table:
    days = World(CUSTOMERS, seed=5).days(DAY, DAYS)
    return pa.concat_tables([table.unify_dictionaries() for table in days], promote_options="none")


def column(table: pa.Table, name: str) -> Any:
    return table.column(name).to_numpy()


def test_the_same_seed_gives_the_same_rows_whatever_was_asked_before() -> None:
    again = World(400, seed=5)
    for _ in again.days(DAY, 3):
        pass
    assert World(400, seed=5).day(DAY + 3).equals(again.day(DAY + 3))
    assert not World(400, seed=6).day(DAY).equals(World(400, seed=5).day(DAY))


def test_a_new_pattern_changes_later_days_only() -> None:
    plain = World(20_000, seed=5)
    changed = World(20_000, seed=5, new_pattern_day=DAY + 1)
    assert changed.day(DAY).equals(plain.day(DAY))
    scenarios = set(changed.day(DAY + 1).column("scenario").cast(pa.string()).to_pylist())
    assert "remote_access" in scenarios
    assert "remote_access" not in plain.day(DAY + 1).column("scenario").to_pylist()


def test_a_wave_comes_every_so_many_days() -> None:
    def frauds(day: int) -> int:
        starts = World(2_000, seed=5, wave_every=10)._factor(day)
        return int(starts)

    assert [day for day in range(DAY, DAY + 30) if frauds(day) > 1] == [
        day for day in range(DAY, DAY + 30) if day % 10 == 0
    ]
    wave = next(day for day in range(DAY, DAY + 10) if day % 10 == 0)
    plain, more = World(2_000, seed=5).day(wave), World(2_000, seed=5, wave_every=10).day(wave)
    assert pc.sum(more.column("fraud")).as_py() > 2 * pc.sum(plain.column("fraud")).as_py()


def test_the_fraud_factor_changes_fraud_alone() -> None:
    plain, more = World(2_000, seed=5).day(DAY), World(2_000, seed=5, fraud_factor=4.0).day(DAY)
    frauds = [pc.sum(table.column("fraud")).as_py() for table in (plain, more)]
    assert frauds[1] > 2 * frauds[0]
    honest = [table.filter(pc.invert(table.column("fraud"))) for table in (plain, more)]
    kept = ("event_time", "amount", "mcc")
    assert honest[0].select(kept).equals(honest[1].select(kept))


def test_ids_are_unique_and_times_lie_within_their_day(fortnight: pa.Table) -> None:
    assert pc.count_distinct(fortnight.column("transaction_id").cast(pa.string())).as_py() == (
        fortnight.num_rows
    )
    times = column(fortnight, "event_time")
    assert bool((np.diff(times) >= 0).all())
    assert times.min() >= DAY * 86_400_000
    assert times.max() < (DAY + DAYS) * 86_400_000


def test_people_sleep(fortnight: pa.Table) -> None:
    genuine = fortnight.filter(pc.invert(fortnight.column("fraud")))
    home = genuine.filter(pc.equal(genuine.column("merchant_country").cast(pa.string()), "DE"))
    hours = column(home, "event_time") // 3_600_000 % 24
    counts = np.bincount(hours, minlength=24)
    assert counts[1:5].mean() < counts[9:19].mean() / 4


def test_people_travel_and_return(fortnight: pa.Table) -> None:
    pos = fortnight.filter(pc.equal(fortnight.column("channel").cast(pa.string()), "POS"))
    abroad = pc.not_equal(
        pos.column("card_country").cast(pa.string()),
        pos.column("merchant_country").cast(pa.string()),
    )
    share = pc.mean(abroad.cast(pa.float64())).as_py()
    assert 0.01 < share < 0.3


def test_households_share_devices_and_offices_addresses(fortnight: pa.Table) -> None:
    genuine = fortnight.filter(pc.invert(fortnight.column("fraud")))
    for name, shared in (("device_id", 0.02), ("ip", 0.02)):
        table = pa.table(
            {
                "entity": genuine.column(name).cast(pa.string()),
                "customer": genuine.column("customer_id").cast(pa.string()),
            }
        ).drop_null()
        users = table.group_by("entity").aggregate([("customer", "count_distinct")])
        counts = column(users, "customer_count_distinct")
        assert (counts > 1).mean() > shared
        assert (counts == 1).mean() > 0.2


def test_fraud_is_rare_and_of_every_kind(fortnight: pa.Table) -> None:
    share = column(fortnight, "fraud").mean()
    assert 0.001 < share < 0.02
    kinds = set(fortnight.column("scenario").cast(pa.string()).to_pylist())
    assert {"stolen_card_spree", "account_takeover", "slow_abuse"} <= kinds


def test_labels_come_days_after_their_transaction(fortnight: pa.Table) -> None:
    reported = fortnight.filter(pc.and_(fortnight.column("label"), fortnight.column("fraud")))
    days = (column(reported, "label_time") - column(reported, "event_time")) / 86_400_000
    assert days.min() > 0
    assert 0.5 < np.median(days) < 10
    assert days.max() <= 45
    frauds = pc.sum(fortnight.column("fraud")).as_py()
    assert 0.95 < reported.num_rows / frauds <= 1.0


def test_some_frauds_are_reported_within_hours(fortnight: pa.Table) -> None:
    takeover = fortnight.filter(
        pc.equal(fortnight.column("scenario").cast(pa.string()), "account_takeover")
    )
    hours = (column(takeover, "label_time") - column(takeover, "event_time")) / 3_600_000
    assert 0.2 < (hours < 8).mean() < 0.7
    slow = fortnight.filter(pc.equal(fortnight.column("scenario").cast(pa.string()), "slow_abuse"))
    hours = (column(slow, "label_time") - column(slow, "event_time")) / 3_600_000
    assert (hours < 8).mean() < 0.15


def test_the_new_pattern_comes_as_often_as_it_is_told() -> None:
    some, more = (
        World(3_000, seed=5, new_pattern_day=DAY, new_pattern_factor=factor).day(DAY)
        for factor in (2.0, 40.0)
    )
    counts = [
        pc.sum(pc.equal(table.column("scenario").cast(pa.string()), "remote_access")).as_py()
        for table in (some, more)
    ]
    assert counts[1] > 5 * counts[0]


def test_drift_changes_how_honest_people_buy_from_its_day_on() -> None:
    plain, drifting = World(3_000, seed=5), World(3_000, seed=5, drift_day=DAY + 1)
    assert drifting.day(DAY).equals(plain.day(DAY))
    honest = [
        table.filter(pc.invert(table.column("fraud")))
        for table in (plain.day(DAY + 3), drifting.day(DAY + 3))
    ]
    assert honest[0].num_rows == honest[1].num_rows
    moved = column(honest[0], "amount") != column(honest[1], "amount")
    assert 0.005 < moved.mean() < 0.02
    assert column(honest[1], "amount")[moved].mean() > 2 * column(honest[0], "amount")[moved].mean()
