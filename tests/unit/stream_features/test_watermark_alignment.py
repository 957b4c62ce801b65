"""Workers in catch-up: how far one may go beyond the others."""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime.feature_store.memory import MemoryFeatureStore
from stream_features.worker.ordering import NO_LIMIT, NO_TIME, SLACK_MS
from stream_features.worker.watermark_alignment import WatermarkAlignment


@dataclass
class Team:
    """Two workers with a partition each, on one store and one clock."""

    store: MemoryFeatureStore = field(default_factory=MemoryFeatureStore)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.one = WatermarkAlignment(self.store, "one", 2, lambda: self.now)
        self.two = WatermarkAlignment(self.store, "two", 2, lambda: self.now)
        self.one.assign([0])
        self.two.assign([1])


def test_the_owner_of_all_partitions_asks_nobody() -> None:
    store = MemoryFeatureStore()
    store.available = False
    alone = WatermarkAlignment(store, "one", 2, lambda: 0.0)
    alone.assign([0, 1])
    assert alone.limit(5, lagging=True) == NO_LIMIT


def test_nobody_runs_ahead_before_all_have_been_heard_of() -> None:
    team = Team()
    assert team.one.limit(1000, lagging=True) == NO_TIME
    team.two.limit(5000, lagging=True)
    team.now += 0.5
    assert team.one.limit(1000, lagging=True) == 65_000


def test_the_wait_for_the_others_is_bounded() -> None:
    team = Team()
    team.now = 1.9
    assert team.one.limit(1000, lagging=True) == NO_TIME
    team.now = 2.0
    assert team.one.limit(1000, lagging=True) == NO_LIMIT


def test_twice_a_second_a_worker_hears_where_the_others_are() -> None:
    team = Team()
    team.two.limit(5_000, lagging=True)
    assert team.one.limit(1_000, lagging=True) == 65_000
    team.two.limit(30_000, lagging=True)
    team.now = 0.4
    assert team.one.limit(1_000, lagging=True) == 65_000
    team.now = 0.5
    assert team.one.limit(1_000, lagging=True) == 90_000


def test_a_refused_record_waits_for_nobody() -> None:
    assert Team().one.limit(NO_TIME, lagging=True) == NO_LIMIT


def test_a_worker_at_the_live_edge_holds_nobody_up() -> None:
    team = Team()
    team.two.limit(NO_TIME, lagging=False)
    assert team.one.limit(1000, lagging=True) == NO_LIMIT
    assert team.two.limit(10**15, lagging=False) == NO_LIMIT


def test_who_is_held_up_hears_at_once_that_the_slower_one_moved() -> None:
    team = Team()
    team.two.limit(0, lagging=True)
    ahead = 2 * SLACK_MS
    assert team.one.limit(ahead, lagging=True) == SLACK_MS
    team.two.limit(SLACK_MS, lagging=True)
    assert team.one.limit(ahead, lagging=True) == 2 * SLACK_MS


def test_the_slowest_always_may_go_on() -> None:
    """Whatever the heads are, at least one worker is allowed its next record."""
    heads = [0, 0]
    team = Team()
    team.one.limit(0, lagging=True)
    team.two.limit(0, lagging=True)
    for _ in range(200):
        allowed = [
            pace.limit(head, lagging=True) >= head
            for pace, head in zip((team.one, team.two), heads, strict=True)
        ]
        assert any(allowed)
        assert abs(heads[0] - heads[1]) <= SLACK_MS + 50_000
        heads = [head + 50_000 * may for head, may in zip(heads, allowed, strict=True)]
    assert min(heads) > 10 * SLACK_MS


def test_what_was_published_is_withdrawn_at_a_new_assignment() -> None:
    team = Team()
    team.two.limit(0, lagging=True)
    team.two.withdraw()
    team.one.assign([0, 1])
    assert team.one.limit(10**12, lagging=True) == NO_LIMIT
    assert team.store.exchange_watermark("other", None) == {}


def test_a_name_that_no_worker_has_is_not_counted_as_an_owner() -> None:
    team = Team()
    team.store.exchange_watermark("stranger", 10**12)
    team.store.exchange_watermark("stranger:x,,\u00b2", 10**12)
    assert team.one.limit(1000, lagging=True) == NO_TIME
