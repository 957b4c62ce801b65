"""How XGBoost learns by default: one place for the product's training and for the benchmark.

Found on folds of the Fraud Detection Handbook whose test weeks end before the benchmark's first
training week begins; see docs/decisions/0007-benchmark.md.
"""

from __future__ import annotations

from typing import Any, Final

ROUNDS: Final = 200
GENUINE_PER_FRAUD: Final = 120
"""Rows of the majority class that are kept; 50 cost 0.005 of average precision on those folds."""


def learner(*, seed: int, threads: int) -> dict[str, Any]:
    """Return the parameters of `xgboost.train`; the same seed gives the same trees.

    Many features are near copies of each other (a sum and a count of one window): when each node
    chooses from three in ten of them only, the trees differ and their sum generalises.
    """
    return {
        "objective": "binary:logistic",
        "eval_metric": "aucpr",
        "tree_method": "hist",
        "max_depth": 5,
        "eta": 0.03,
        "colsample_bynode": 0.3,
        "subsample": 0.8,
        "min_child_weight": 1,
        "seed": seed,
        "nthread": threads,
    }
