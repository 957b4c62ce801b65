"""Guard: judges whether a canary or a fresh champion is worse than its reference model. Pure.

It runs sequential tests on growing sums, which stay valid however often they are evaluated:

- block rate and alert rate: a candidate that blocks many times more, or many times less, than its
  reference is broken, whatever the labels will say;
- distance of the scores from the candidate's own reference histogram (Kolmogorov): its inputs
  differ from its training data, unless the reference model has moved as far;
- precision of alerts, once labels arrive.

A rate's confidence sequence is the beta-binomial mixture: with k of n, p is inside while
B(k + ½, n - k + ½) / B(½, ½) < p^k (1 - p)^(n - k) / α (Robbins 1970; Ville's inequality). A
distribution's band is 0.85 √((ln ln(e n) + 0.8 ln(1612 / α)) / n) (Howard and Ramdas, Sequential
estimation of quantiles, 2022, corollary 2). Two rates differ when their sequences do not meet. That
is an error only where one of the two has left its bounds, of which the chance is at most 2 α by the
union bound. The same holds for a distance beyond its two bands.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from monitor.observe.cells import Cell, Floats

TESTS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardRules:
    """Limits beyond which a candidate counts as worse.

    Args:
        alpha: divided among the tests; each sequence of a test gets the test's whole share. Over
            all evaluations and tests, an equal model is called worse with a chance of at most
            2 alpha.
        rate_ratio: a rate this many times above, or below, that of the reference is absurd.
        rate_floor: a rate must also be at least this much above that of the reference.
        distance: permitted Kolmogorov distance from the candidate's own histogram, beyond the band
            and beyond the distance of the reference model from its histogram.
        precision_margin: permitted loss of precision.
        fresh_ms: age up to which a champion is watched.
        min_decisions: decisions that either model needs before it is judged.
    """

    alpha: float = 0.01
    rate_ratio: float = 3.0
    rate_floor: float = 0.02
    distance: float = 0.25
    precision_margin: float = 0.05
    fresh_ms: int = 24 * 3_600_000
    min_decisions: int = 30


@dataclass(frozen=True, slots=True)
class Sample:
    """The observations of one model: its summed cell, and its scores binned like its reference.

    `reference` and `scores` are counts of equal shape; None without a reference histogram.
    """

    cell: Cell
    reference: Floats | None = None
    scores: Floats | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The test that a candidate failed, with the figures of both models."""

    test: str
    candidate: float
    reference: float
    decisions: int

    def __str__(self) -> str:
        """Return one line for people."""
        return (
            f"{self.test} {self.candidate:.3g} against {self.reference:.3g} "
            f"after {self.decisions} decisions"
        )


def judge(candidate: Sample, reference: Sample, rules: GuardRules) -> Verdict | None:
    """Return why the candidate is certainly worse, or None."""
    mine, other = candidate.cell, reference.cell
    if mine.decided < rules.min_decisions or other.decided < rules.min_decisions:
        return None
    alpha = rules.alpha / TESTS
    for name, actions in (("block rate", (2,)), ("alert rate", (1, 2))):
        k1, k0 = (int(cell.by_action[list(actions)].sum()) for cell in (mine, other))
        low, high = rate_bounds(k1, mine.decided, alpha)
        other_low, other_high = rate_bounds(k0, other.decided, alpha)
        too_many = low > max(rules.rate_ratio * other_high, other_high + rules.rate_floor)
        if too_many or high < other_low / rules.rate_ratio:
            return Verdict(name, mine.rate(*actions), other.rate(*actions), mine.decided)
    if reference.scores is not None:  # otherwise all traffic may have moved, unnoticed
        moved, band = _distance(candidate, alpha)
        other_moved = _distance(reference, alpha)[0]
        if moved - band > rules.distance + other_moved:
            return Verdict("score distance", moved, other_moved, mine.decided)
    good, judged = mine.fraud(1, 2), mine.fraud(1, 2) + mine.genuine(1, 2)
    good0, judged0 = other.fraud(1, 2), other.fraud(1, 2) + other.genuine(1, 2)
    if judged and judged0:
        high = rate_bounds(good, judged, alpha)[1]
        low = rate_bounds(good0, judged0, alpha)[0]
        if high < low - rules.precision_margin:
            return Verdict("precision", good / judged, good0 / judged0, mine.decided)
    return None


def rate_bounds(k: int, n: int, alpha: float) -> tuple[float, float]:
    """Return the bounds of a rate after k of n, a confidence sequence two-sided at `alpha`.

    >>> low, high = rate_bounds(50, 50, 0.01)
    >>> low > 0.8, high
    (True, 1.0)
    """
    if n == 0:
        return 0.0, 1.0
    mixture = (
        math.lgamma(k + 0.5) + math.lgamma(n - k + 0.5) - math.lgamma(n + 1.0) - math.log(math.pi)
    )
    limit = mixture + math.log(alpha)

    def outside(p: float) -> bool:
        likelihood = (k * math.log(p) if k else 0.0) + ((n - k) * math.log1p(-p) if n > k else 0.0)
        return likelihood <= limit

    centre = k / n
    low = _bisect(0.0, centre, outside) if k else 0.0
    high = _bisect(1.0, centre, outside) if k < n else 1.0
    return low, high


def _bisect(outer: float, inner: float, outside: Callable[[float], bool]) -> float:
    """Return the edge between `outer`, which is outside, and `inner`, which is not."""
    for _ in range(30):
        middle = (outer + inner) / 2.0
        if outside(middle):
            outer = middle
        else:
            inner = middle
    return outer


def _distance(sample: Sample, alpha: float) -> tuple[float, float]:
    """Return the Kolmogorov distance of a model's scores from its reference, and the band."""
    if sample.scores is None or sample.reference is None:
        return 0.0, 0.0
    n, known = float(sample.scores.sum()), float(sample.reference.sum())
    if n < 1 or known < 1:
        return 0.0, 0.0
    apart = (sample.scores.cumsum() / n - sample.reference.cumsum() / known).tolist()
    band = sum(
        0.85 * math.sqrt((math.log(math.log(math.e * size)) + 0.8 * math.log(1612 / alpha)) / size)
        for size in (n, known)
    )
    return max(map(abs, apart)), band
