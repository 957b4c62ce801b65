"""Guard: broken candidates are found soon, equal ones are left alone."""

from __future__ import annotations

from typing import Final

import numpy as np
import pytest

from monitor.judge.guard import GuardRules, Sample, judge, rate_bounds
from monitor.observe.cells import Cell, score_bins
from monitor.observe.join_kernel import (
    BINS,
    CELL_NUMBERS,
    FRAUD,
    GENUINE,
    LABELS_OF,
    NO_LABEL,
    VALUE,
)

RULES: Final = GuardRules()
EDGES: Final = np.array([0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.2, 0.6])


class Traffic:
    """Scores, actions and labels of a model, summed as the monitor sums them."""

    def __init__(self, reference: np.ndarray | None = None) -> None:
        self.numbers = np.zeros(CELL_NUMBERS, np.int64)
        self.histograms = np.zeros((LABELS_OF, BINS), np.int64)
        self.scores = np.zeros(len(EDGES) + 1)
        self.reference = reference

    def add(self, scores: np.ndarray, label: int = NO_LABEL) -> None:
        actions = (scores > 0.75).astype(int) + (scores > 0.95)
        self.numbers[:VALUE] += np.bincount(actions * LABELS_OF + label, minlength=VALUE)
        self.histograms[label] += np.bincount(score_bins(scores), minlength=BINS)
        self.scores += np.bincount(np.searchsorted(EDGES, scores), minlength=len(EDGES) + 1)

    def sample(self) -> Sample:
        return Sample(Cell(self.numbers, self.histograms), self.reference, self.scores)


def healthy(draw: np.random.Generator, count: int) -> np.ndarray:
    """Scores of which about 1% are blocked and 0.6% reviewed."""
    fraud = draw.random(count) < 0.02
    return np.where(fraud, draw.beta(6, 0.5, count), draw.beta(0.3, 20, count))


def reference(seed: int = 0) -> np.ndarray:
    scores = healthy(np.random.default_rng(seed), 20_000)
    return np.bincount(np.searchsorted(EDGES, scores), minlength=len(EDGES) + 1).astype(float)


def decisions_until_found(broken: np.ndarray, seed: int = 1) -> tuple[str, int]:
    """Feed a 10% canary with `broken` scores, ten decisions at a time."""
    draw = np.random.default_rng(seed)
    canary, champion = Traffic(reference()), Traffic(reference())
    champion.add(healthy(draw, 1_000))
    for start in range(0, len(broken), 10):
        canary.add(broken[start : start + 10])
        champion.add(healthy(draw, 90))
        found = judge(canary.sample(), champion.sample(), RULES)
        if found is not None:
            return found.test, found.decisions
    return "", len(broken)


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("blocks all", np.full(500, 1.0)),
        ("scores all 0", np.zeros(500)),
        ("one value for all", np.full(500, 0.3)),
        ("inverted", 1.0 - healthy(np.random.default_rng(4), 500)),
        ("blocks 15%", np.where(np.arange(500) % 7 == 0, 0.99, 0.003)),
    ],
)
def test_a_broken_canary_is_found_within_500_decisions_without_labels(
    name: str, broken: np.ndarray
) -> None:
    test, decisions = decisions_until_found(broken)
    assert test, name
    assert decisions <= 500


def test_a_low_precision_is_found_when_labels_come() -> None:
    draw = np.random.default_rng(1)
    canary, champion = Traffic(), Traffic()
    for traffic, share in ((canary, 0.4), (champion, 0.9)):
        traffic.add(healthy(draw, 5_000))
        assert judge(canary.sample(), champion.sample(), RULES) is None
        frauds = round(100 * share)
        traffic.add(np.full(frauds, 0.99), FRAUD)
        traffic.add(np.full(100 - frauds, 0.99), GENUINE)
    found = judge(canary.sample(), champion.sample(), RULES)
    assert found is not None
    assert (found.test, found.candidate, found.reference) == ("precision", 0.4, 0.9)


def test_a_world_that_moved_for_both_is_not_the_candidates_fault() -> None:
    canary, champion = Traffic(reference()), Traffic(reference())
    moved = np.clip(healthy(np.random.default_rng(3), 4_000) * 20, 0, 0.7)
    canary.add(moved[:2_000])
    champion.add(moved[2_000:])
    assert judge(canary.sample(), champion.sample(), RULES) is None
    champion.reference = None  # as if the champion's had not moved
    assert judge(canary.sample(), champion.sample(), RULES) is not None


def test_a_confidence_sequence_holds_at_every_look() -> None:
    """Of 300 streams looked at after each draw, fewer than alpha ever leave their own bounds."""
    draw = np.random.default_rng(2)
    left = 0
    for _ in range(300):
        hits = np.cumsum(draw.random(300) < 0.1)
        looks = [rate_bounds(int(hits[n - 1]), n, 0.05) for n in range(1, 301, 5)]
        left += any(not low <= 0.1 <= high for low, high in looks)
    assert left <= 300 * 0.05
    assert rate_bounds(0, 0, 0.01) == (0.0, 1.0)


def acting(decided: int, blocked: int) -> Sample:
    """Return decisions of which some are blocked and the others approved."""
    made = Traffic()
    made.add(np.full(blocked, 0.99))
    made.add(np.full(decided - blocked, 0.01))
    return made.sample()


@pytest.mark.parametrize(
    ("blocked", "usual"),
    [
        (1_500, 200),  # seven times as many, but less than two points more
        (30_000, 20_000),  # ten points more, but not three times as many
        (2_500, 5_000),  # half as many
        (1_000, 0),
    ],
)
def test_a_rate_beyond_one_of_its_two_limits_is_not_a_fault(blocked: int, usual: int) -> None:
    assert judge(acting(100_000, blocked), acting(100_000, usual), RULES) is None


@pytest.mark.parametrize("blocked", [0, 500])
def test_a_model_that_blocks_far_too_little_is_found(blocked: int) -> None:
    found = judge(acting(100_000, blocked), acting(100_000, 5_000), RULES)
    assert found is not None
    assert (found.test, found.candidate, found.reference) == ("block rate", blocked / 1e5, 0.05)


def test_nothing_is_judged_by_fewer_than_thirty_decisions_of_either() -> None:
    assert judge(acting(29, 29), acting(10_000, 100), RULES) is None
    assert judge(acting(10_000, 10_000), acting(29, 0), RULES) is None
    assert judge(acting(30, 30), acting(10_000, 100), RULES) is not None


def scoring(decided: int, low: float) -> Sample:
    """Return scores of which the share `low` is low; the model's reference says half."""
    made = Traffic(np.array([0, 0, 0, 10_000, 0, 0, 0, 10_000, 0, 0], np.float64))
    made.add(np.full(round(decided * low), 0.003))
    made.add(np.full(decided - round(decided * low), 0.1))
    return made.sample()


def test_scores_that_moved_a_little_or_of_few_decisions_are_not_a_fault() -> None:
    champion = scoring(20_000, 0.5)
    assert judge(scoring(20_000, 0.65), champion, RULES) is None
    assert judge(scoring(200, 0.8), champion, RULES) is None
    found = judge(scoring(20_000, 0.9), champion, RULES)
    assert found is not None
    assert found.test == "score distance"


def precise(frauds: int) -> Sample:
    """Return 100,000 blocks, of which `frauds` were right."""
    made = Traffic()
    made.add(np.full(frauds, 0.99), FRAUD)
    made.add(np.full(100_000 - frauds, 0.99), GENUINE)
    return made.sample()


def test_a_precision_that_is_lower_by_less_than_the_margin_is_not_a_fault() -> None:
    assert judge(precise(87_000), precise(90_000), RULES) is None
    assert judge(precise(83_000), precise(90_000), RULES) is not None


def test_equal_models_are_rolled_back_in_fewer_runs_than_alpha() -> None:
    """200 runs of 5,000 decisions of a canary, looked at every 250, labels and all."""
    alarms = 0
    for seed in range(200):
        draw = np.random.default_rng(seed)
        canary, champion = Traffic(reference(1)), Traffic(reference(2))
        for _ in range(20):
            for traffic, count in ((canary, 250), (champion, 1_000)):
                scores = healthy(draw, count)
                alerts = scores > 0.75
                traffic.add(scores[~alerts])
                good = draw.random(int(alerts.sum())) < 0.88
                traffic.add(scores[alerts][good], FRAUD)
                traffic.add(scores[alerts][~good], GENUINE)
            if judge(canary.sample(), champion.sample(), RULES) is not None:
                alarms += 1
                break
    assert alarms <= 200 * RULES.alpha
