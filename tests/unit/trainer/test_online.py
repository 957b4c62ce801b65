"""The online learner: order, bounds, the rule, what waits, and that a restart changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.errors import ConfigurationError
from schemas.features import DAY, VECTOR_SIZE
from scorer.model.adjustment import COLUMNS, log_odds, squeezed
from scorer.model.bundle import Model
from tests.support.scorer.stand_ins import small_model
from trainer.evaluation.resampling import Interval
from trainer.online import state as online_state
from trainer.online.auc_window import AdjustmentRule, AucComparison, AucWindow
from trainer.online.learner import PLACES, Learner, LearnerOptions
from trainer.online.learning import Online, OnlineOptions
from trainer.online.pending import GENUINE_SHARE, Pending

DELAY = DAY


def stream(rows: int, seed: int = 1) -> tuple[Any, Any, Any]:
    """Return inputs, a champion's log-odds, and frauds that one input shows but it does not."""
    draw = np.random.default_rng(seed)
    inputs = draw.gamma(2.0, 10.0, (rows, len(COLUMNS))).astype(np.float32)
    inputs[draw.random(inputs.shape) < 0.1] = np.nan
    odds = draw.normal(-3.0, 1.5, rows)
    hidden = np.nan_to_num(inputs[:, PLACES[3]]) > 35
    fraud = draw.random(rows) < 1 / (1 + np.exp(-(odds + 3.0 * hidden)))
    return inputs, odds, fraud


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return small_model(tmp_path_factory.mktemp("bundle") / "champion", "champion")


def test_an_adjustment_scores_as_river_does() -> None:
    inputs, odds, fraud = stream(800)
    learner = Learner(LearnerOptions(bound=10.0))
    learner.learn(inputs, odds, fraud, np.ones(800))
    change = learner.adjustment("m", 1, 0)
    after = odds + change.added(inputs, odds)
    values = squeezed(inputs[:, PLACES])
    river = np.array([learner.probability(*row) for row in zip(values, odds, strict=True)])
    np.testing.assert_allclose(1 / (1 + np.exp(-after)), river, atol=1e-9)
    assert np.abs(after - odds).max() > 0.1


def test_each_row_is_scored_before_it_is_learned() -> None:
    inputs, odds, fraud = stream(300)
    scored = Learner().learn(inputs, odds, fraud, np.ones(300))
    assert scored[0] == odds[0]
    flipped = fraud.copy()
    flipped[200] = ~flipped[200]
    other = Learner().learn(inputs, odds, flipped, np.ones(300))
    assert np.array_equal(scored[:201], other[:201])
    assert not np.array_equal(scored[201:], other[201:])


def test_the_adjustment_stays_within_its_bound() -> None:
    inputs, odds, _ = stream(500)
    learner = Learner(LearnerOptions(rate=0.5, bound=0.7))
    scored = learner.learn(inputs, odds, np.ones(500, bool), np.ones(500))
    assert np.abs(scored - odds).max() == pytest.approx(0.7)
    added = learner.adjustment("m", 1, 0).added(inputs, odds)
    assert np.abs(added).max() == pytest.approx(0.7)


def test_the_rule_wants_certainty_and_keeps_its_mind() -> None:
    def told(value: float, low: float, frauds: int = 300) -> AucComparison:
        return AucComparison(frauds, 1000, 0.9, 0.9, Interval(value, low, value + 0.01))

    rule = AdjustmentRule(margin=0.002, frauds=200, patience=2)
    better, close, unsure, worse = (
        told(0.01, 0.005), told(0.001, 0.0005), told(0.01, -0.001), told(-0.001, -0.01),
    )  # fmt: skip
    assert not rule.judge(None)
    assert [rule.judge(told(0.01, 0.005, 199)) for _ in range(5)] == [False] * 5
    steps = [better, close, better, unsure, better, better]
    assert [rule.judge(each) for each in steps] == [False] * 5 + [True]
    steps = [worse, close, unsure, worse, worse, better]
    assert [rule.judge(each) for each in steps] == [True] * 4 + [False] * 2


def test_the_window_forgets_the_oldest_and_ranks_both() -> None:
    window = AucWindow(frauds=100, genuine=500)
    assert window.compare() is None
    draw = np.random.default_rng(1)
    noise = draw.normal(size=2_000)
    fraud = draw.random(2_000) < 0.2
    window.add(noise[:1000], fraud[:1000].astype(np.float64), fraud[:1000])  # the champion knows
    window.add(fraud[1000:].astype(np.float64), noise[1000:], fraud[1000:])  # now the learner does
    found = window.compare()
    assert found is not None
    assert (found.frauds, found.genuine, found.online) == (100, 500, 1.0)
    assert found.champion == pytest.approx(0.5, abs=0.08)
    assert found.difference.value == pytest.approx(1.0 - found.champion)


def pending(records: int) -> Pending:
    return Pending(records, len(COLUMNS), label_delay_ms=DELAY)


def add(ring: Pending, keys: Any, received: int) -> Any:
    keys = np.asarray(keys, np.uint64)
    out = ring.make_room(len(keys))
    count = len(keys)
    came = ring.add(
        keys, np.zeros((count, len(COLUMNS)), np.float32), np.zeros(count),
        np.full(count, received),
    )  # fmt: skip
    return out, came


def test_a_label_counts_once_and_a_late_fraud_still_does() -> None:
    ring = pending(1000)
    keys = list(range(1, 501))
    add(ring, keys, 0)
    assert ring.label([7, 7, 8], [True, True, True]).slots.tolist() == [6, 7]
    assert not len(ring.mature().slots)
    add(ring, [600], DELAY)
    matured = ring.mature()
    assert not matured.fraud.any()
    assert len(matured.slots) == pytest.approx(500 * GENUINE_SHARE, abs=25)
    assert {6, 7}.isdisjoint(matured.slots.tolist())
    assert matured.weight.tolist() == [1 / GENUINE_SHARE] * len(matured.slots)
    assert not len(ring.mature().slots)
    late = ring.label([9, 9], [True, False])
    assert (late.slots.tolist(), late.fraud.tolist()) == ([8], [True])


def test_a_label_that_comes_first_waits_for_its_transaction() -> None:
    ring = pending(100)
    assert not len(ring.label([5, 6], [True, True]).slots)
    _, came = add(ring, [4, 5], 0)
    assert (came.slots.tolist(), came.fraud.tolist()) == ([1], [True])
    assert list(ring.early) == [6]


def test_a_small_ring_counts_what_it_drops_as_genuine_and_holds_no_more() -> None:
    ring = pending(100)
    learned = 0
    for first in range(1, 10_001, 100):
        out, _ = add(ring, range(first, first + 100), 0)
        learned += len(out.slots)
    assert learned == pytest.approx(9_900 * GENUINE_SHARE, rel=0.1)
    assert len(ring) == len(ring._index) == 100
    assert ring.new(np.array([9_950, 20_000, 20_000, 5], np.uint64)).tolist() == [1, 3]


def fed(online: Online, rows: range, vectors: Any) -> None:
    """Feed a transaction a minute, every twentieth a fraud that is reported at once."""
    keys = (np.array(rows) + 1).astype(np.uint64) * np.uint64(0xD1342543DE82EF95)
    online.transactions(keys, vectors[rows.start : rows.stop], np.array(rows) * 60_000)
    online.labels(keys[::20].tolist(), [True] * len(keys[::20]))


def test_nothing_is_learned_before_its_label_is_known(model: Model) -> None:
    vectors = np.random.default_rng(1).gamma(2.0, 10.0, (3_000, VECTOR_SIZE)).astype(np.float32)
    online = Online(OnlineOptions(records=5_000, label_delay_ms=DELAY))
    fed(online, range(100), vectors)
    assert not online.counts.transactions, "there is no champion"
    online.follow(model)
    fed(online, range(1_000), vectors)
    assert online.learner.learned == 0, "only frauds are known"
    fed(online, range(1_000, 3_000), vectors)
    assert online.counts.frauds == 50 + 50
    assert online.counts.genuine == pytest.approx((3_000 - 1_440) * 0.95 * GENUINE_SHARE, rel=0.3)


def test_a_new_champion_begins_anew_with_what_still_waits(model: Model, tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).gamma(2.0, 10.0, (3_000, VECTOR_SIZE)).astype(np.float32)
    vectors[:, 0] = np.linspace(0, 1_500, 3_000)
    online = Online(OnlineOptions(records=5_000, label_delay_ms=DELAY))
    online.follow(model)
    fed(online, range(3_000), vectors)
    fed(online, range(3_000, 3_000), vectors)
    other = small_model(tmp_path / "next", "next", edge=900.0, seed=2)
    online.follow(other)
    assert (online.base, online.learner.learned, online.window.frauds) == ("next", 0, 0)
    slots = online.pending.newest(3_000)
    inputs = other.inputs(vectors)
    assert np.array_equal(online.pending.inputs[slots], inputs)
    assert np.array_equal(online.pending.log_odds[slots], log_odds(other.probability(inputs)))


def test_a_restart_goes_on_as_if_there_had_been_none(model: Model, tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).gamma(2.0, 10.0, (6_000, VECTOR_SIZE)).astype(np.float32)
    whole = Online(OnlineOptions(records=4_000, label_delay_ms=DELAY))
    whole.follow(model)
    fed(whole, range(3_000), vectors)
    whole.labels([1], [True])  # too early
    with online_state.owned(tmp_path):
        online_state.save(tmp_path, whole.state())
        with (
            pytest.raises(ConfigurationError, match="another process"),
            online_state.owned(tmp_path),
        ):
            pass
    again = Online(whole.options)
    state = online_state.load(tmp_path)
    assert state is not None
    again.restore(state)
    again.follow(model)
    for online in (whole, again):
        fed(online, range(3_000, 6_000), vectors)
    assert again.learner.state() == whole.learner.state()
    assert again.compare() == whole.compare()
    assert again.pending.early == whole.pending.early == {1: True}


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    assert online_state.load(tmp_path) is None
    (tmp_path / online_state.FILE).write_bytes(b"no archive")
    with pytest.raises(ConfigurationError, match="damaged"):
        online_state.load(tmp_path)


def test_the_window_holds_the_newest_rows_however_they_come() -> None:
    window, added = AucWindow(frauds=5, genuine=5), 0
    for count in (3, 8, 2, 5, 11, 1):
        values = np.arange(added, added + count, dtype=np.float64)
        window.add(values, values, np.ones(count, np.bool_))
        added += count
        held = sorted(window.state()["frauds_pairs"][: window.frauds, 0].tolist())
        assert held == list(range(max(added - 5, 0), added))


def test_a_fraud_that_comes_early_stays_one() -> None:
    ring = pending(100)
    ring.label([5, 5, 6, 6, 7], [True, False, False, True, False])
    _, came = add(ring, [5, 6], 0)
    assert came.fraud.tolist() == [True, True]


def test_a_hundred_thousand_labels_may_come_early() -> None:
    ring = pending(10)
    ring.label(range(1, 100_003), [True] * 100_002)
    assert len(ring.early) == 100_000
    assert {1, 2}.isdisjoint(ring.early)
    assert 100_002 in ring.early


def test_adjustments_that_differ_by_a_tenth_in_log_odds_differ_materially(model: Model) -> None:
    online = Online(OnlineOptions(records=1_000, label_delay_ms=DELAY))
    online.follow(model)
    plain = online.learner.adjustment("champion", 1, 0)
    assert online.differs(plain, None)
    assert not online.differs(plain, replace(plain, intercept=1.0)), "there is nothing to compare"
    vectors = np.random.default_rng(1).gamma(2.0, 10.0, (100, VECTOR_SIZE)).astype(np.float32)
    online.transactions(np.arange(1, 101, dtype=np.uint64), vectors, np.zeros(100, np.int64))
    assert not online.differs(plain, replace(plain, intercept=0.09))
    assert online.differs(plain, replace(plain, intercept=0.11))
