"""Drift: PSI and missing rates by known answers, a sliding window, ADWIN, delays."""

from __future__ import annotations

import math

import numpy as np
import pytest

from monitor.observe.drift import Reference, Window, psi, score_window
from monitor.observe.shift import GROUP, ScoreShift
from monitor.observe.timing import Delays, Freshness
from schemas.errors import ConfigurationError
from schemas.features import HOUR
from trainer.evaluation.evaluate import histogram

NOW = 1_700_000_000_000 // HOUR * HOUR
NAMES = ("a", "b", "constant")


def window(table: np.ndarray, hours: int = 4) -> Window:
    histograms = {name: histogram(table[:, place]) for place, name in enumerate(NAMES)}
    made = Window(Reference.from_bundle(histograms, NAMES), hours)
    made.advance(NOW)
    return made


def table(rows: int = 5_000, seed: int = 1) -> np.ndarray:
    draw = np.random.default_rng(seed)
    values = np.column_stack([draw.normal(size=rows), draw.poisson(2.0, rows), np.zeros(rows)])
    values[draw.random(rows) < 0.1, 1] = np.nan
    return values.astype(np.float32)


def at(hour: int, rows: int) -> np.ndarray:
    return np.full(rows, NOW + hour * HOUR)


def test_the_same_data_fall_into_the_same_bins_as_in_training() -> None:
    values = table()
    made = window(values)
    made.add(values, at(0, len(values)))
    assert made.counts().tolist() == made.reference.counts.astype(int).tolist()
    assert made.psi() == {"a": 0.0, "b": 0.0, "constant": 0.0}
    assert made.missing()["b"] == pytest.approx((0.1, 0.1), abs=0.02)


def test_psi_of_a_moved_column_by_the_formula() -> None:
    made = window(table())
    moved = table(seed=2)
    moved[:, 0] += 1.0
    moved[:2_000, 1] = np.nan
    made.add(moved, at(0, len(moved)))
    found = made.psi()
    edges = np.array(histogram(table()[:, 0])["edges"])
    e, a = (
        np.bincount(np.searchsorted(edges, of[:, 0]), minlength=10) / len(of)
        for of in (table(), moved)
    )
    assert found["a"] == pytest.approx(float(((a - e) * np.log(a / e)).sum()), rel=1e-3)
    assert found["a"] > 0.25
    assert found["b"] > 0.25
    assert found["constant"] < 0.01
    assert made.missing()["b"][0] > 0.4


def test_hours_slide_out_of_the_window_and_memory_stays() -> None:
    made = window(table(), hours=2)
    size = made.nbytes
    made.add(table(100), at(0, 100))
    made.advance(NOW + HOUR)
    made.add(table(50), at(1, 50))
    made.add(table(7), at(-1, 7))  # before the window
    made.add(table(7), at(2, 7))  # after it
    assert made.rows == 150
    assert made.covered() == 1.0
    made.advance(NOW + 2 * HOUR)
    assert made.rows == 50
    made.advance(NOW + 99 * HOUR)
    assert made.rows == 0
    assert made.nbytes == size


def test_a_score_on_an_edge_stays_in_its_bin() -> None:
    scores = np.repeat([0.1, 0.2, 0.30000000000000004], 100)
    made = score_window({"score": histogram(scores)}, 1)
    made.advance(NOW)
    made.add(scores[:, None], at(0, 300))
    assert made.psi()["score"] == 0.0


@pytest.mark.parametrize(
    "broken",
    [{"edges": [1.0, 2.0], "counts": [1, 2], "missing": 0}, {"edges": [], "missing": 0},
     {"edges": [2.0, 1.0], "counts": [1, 2, 3], "missing": 0}],
)  # fmt: skip
def test_a_histogram_that_makes_no_sense_is_refused(broken: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=r"histograms\.json"):
        Reference.from_bundle({"a": broken}, ["a"])


def test_adwin_sees_a_shift_of_level_and_none_in_noise() -> None:
    draw = np.random.default_rng(5)
    watch = ScoreShift()
    for _ in range(100):
        watch.add(draw.beta(0.2, 5.0, 1_000), 1)
    assert watch.shifts == 0
    for _ in range(20):
        watch.add(np.append(draw.beta(0.6, 5.0, 1_000), np.nan), 2)
    assert watch.shifts >= 1
    assert watch.last_ms == 2
    assert watch.mean > 0.08


def test_scores_are_grouped_the_same_however_they_come() -> None:
    scores = np.random.default_rng(6).random(5 * GROUP + 17)
    whole, pieces = ScoreShift(), ScoreShift()
    whole.add(scores, 1)
    for piece in np.array_split(scores, 13):
        pieces.add(piece, 1)
    assert pieces.mean == whole.mean


def test_quantiles_of_delays_are_within_a_bin() -> None:
    delays = Delays()
    assert math.isnan(delays.quantile(0.5))
    values = np.random.default_rng(1).integers(1, 10**9, 10_000)
    delays.add(values)
    for share in (0.1, 0.5, 0.99):
        exact = float(np.quantile(values, share))
        assert exact * 0.98 <= delays.quantile(share) <= exact * 2**0.25 * 1.02


def test_a_stage_is_behind_by_the_positions_it_has_not_answered() -> None:
    fresh = Freshness()
    fresh.reached("features", np.array([0, 0, 1]), np.array([5, 9, 3]))
    assert fresh.behind("decisions", "features") == 10 + 4
    fresh.reached("decisions", np.array([0, 1]), np.array([7, 3]))
    assert fresh.behind("decisions", "features") == 2


def test_an_empty_bin_has_half_an_observation() -> None:
    found = psi(np.array([[100, 100, 0]]), np.array([[200, 0, 0]]), np.array([2]))
    assert found[0] == pytest.approx(0.5 * math.log(2) + (0.0025 - 0.5) * math.log(0.0025 / 0.5))
