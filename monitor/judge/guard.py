"""Guard: is a canary, or a fresh champion, worse than its reference? Pure; `service` acts on it.

Sequential tests on sums that only grow, valid however often one looks:

- block rate, alert rate: a candidate that blocks many times more, or many times less, than its
  reference is broken, whatever the labels will say;
- score distribution against the candidate's own reference histogram (Kolmogorov distance): its
  inputs are not what it was trained on, unless the reference model moved as far;
- precision of alerts, once labels come.

A rate's confidence sequence is the beta-binomial mixture: with k of n, p is inside while
B(k + ½, n - k + ½) / B(½, ½) < p^k (1 - p)^(n - k) / α (Robbins 1970; Ville's inequality). A
distribution's band is 0.85 √((ln ln(e n) + 0.8 ln(1612 / α)) / n) (Howard and Ramdas, Sequential
estimation of quantiles, 2022, corollary 2). Two rates differ when their sequences do not meet. That
is an error only where one of the two has left its bounds, of which the chance is at most 2 α by the
union bound; likewise for a distance beyond its two bands.
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
    """What counts as worse.

    Args:
        alpha: divided among the tests; each sequence of a test has the test's whole share. So over
            all looks and tests an equal model is called worse with a chance of at most 2 alpha.
        rate_ratio, rate_floor: absurd is a rate this many times the reference's, and at least
            this much above it; or this many times below.
        distance: Kolmogorov distance from its own reference beyond the band, and beyond what the
            reference model has from its own.
        precision_margin: how much lower a precision may certainly be.
        fresh_ms: age up to which a champion is watched.
        least: decisions below which nothing is judged.
    """

    alpha: float = 0.01
    rate_ratio: float = 3.0
    rate_floor: float = 0.02
    distance: float = 0.25
    precision_margin: float = 0.05
    fresh_ms: int = 24 * 3_600_000
    least: int = 30


@dataclass(frozen=True, slots=True)
class Sample:
    """What is known of a model: its summed cell, and its scores over its reference's bins.

    `reference` and `scores` are counts of equal shape, None without a reference histogram.
    """

    cell: Cell
    reference: Floats | None = None
    scores: Floats | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a candidate is worse: the test, and both figures."""

    test: str
    candidate: float
    reference: float
    decisions: int

    def __str__(self) -> str:
        """One line for people."""
        return (
            f"{self.test} {self.candidate:.3g} against {self.reference:.3g} "
            f"after {self.decisions} decisions"
        )


def judge(candidate: Sample, reference: Sample, rules: GuardRules) -> Verdict | None:
    """Return why the candidate is certainly worse, or None."""
    mine, other = candidate.cell, reference.cell
    if mine.decided < rules.least or other.decided < rules.least:
        return None
    alpha = rules.alpha / TESTS
    for name, actions in (("block rate", (2,)), ("alert rate", (1, 2))):
        k1, k0 = (int(cell.by_action[list(actions)].sum()) for cell in (mine, other))
        low, high = rate_bounds(k1, mine.decided, alpha)
        least, most = rate_bounds(k0, other.decided, alpha)
        too_many = low > max(rules.rate_ratio * most, most + rules.rate_floor)
        if too_many or high < least / rules.rate_ratio:
            return Verdict(name, mine.rate(*actions), other.rate(*actions), mine.decided)
    if reference.scores is not None:  # or nobody knows whether the traffic moved for it, too
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
    """Return the confidence sequence of a rate after k of n, two-sided at `alpha`.

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
