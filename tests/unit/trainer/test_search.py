"""The search is the same for a seed, keeps its budget, and never does worse than the defaults."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trainer.training.parameters import learner
from trainer.training.search import Examples, SearchOptions, best_rounds, search

DRAW = np.random.default_rng(6)
MATRIX = DRAW.normal(size=(1500, 6)).astype(np.float32)
FRAUD = DRAW.random(1500) < 1 / (1 + np.exp(3 - 2 * MATRIX[:, 0] * (MATRIX[:, 1] > 0)))
EXAMPLES = Examples(MATRIX, FRAUD, np.ones(1500, np.float32))
DEFAULTS = learner(seed=3, threads=1)


def found(seconds: float, trials: int | None, **options: Any) -> Any:
    return search(
        EXAMPLES, DEFAULTS, 25, SearchOptions(seconds=seconds, trials=trials), seed=3, **options
    )


def test_the_same_seed_finds_the_same_setting() -> None:
    one, other = (found(1e9, 12, clock=lambda: 0.0) for _ in range(2))
    assert one == other
    assert one.trials == 12
    assert set(one.parameters) >= {"max_depth", "eta"}


def test_the_defaults_are_the_least_result() -> None:
    alone, best = found(1e9, 1), found(1e9, 12)
    assert alone.parameters["eta"] == pytest.approx(DEFAULTS["eta"])
    assert alone.parameters["max_depth"] == DEFAULTS["max_depth"]
    assert best.value >= alone.value


def test_the_budget_ends_the_search_but_not_the_first_trial() -> None:
    ticks = iter(range(10_000))
    shares: list[float] = []
    result = found(60.0, None, clock=lambda: float(next(ticks)), progress=shares.append)
    assert result.value > 0
    assert shares[-1] == 1.0
    assert result.trials > 1
    assert next(ticks) < 200
    hurried = found(0.5, None, clock=lambda: float(next(ticks)))
    assert hurried.trials == 1


def test_early_stopping_takes_fewer_rounds_than_allowed() -> None:
    assert 0 < best_rounds(EXAMPLES, {**DEFAULTS, "eta": 0.5}, 400) < 100
