"""How XGBoost learns by default: one place for the product's training and for the benchmark.

Found on folds of the Fraud Detection Handbook whose test weeks end before the benchmark's first
training week begins; see docs/decisions/0007-benchmark.md.
"""

from __future__ import annotations

from typing import Any, Final

ROUNDS: Final = 200
GENUINE_PER_FRAUD: Final = 50
"""More of them make training slower but, on the generated world, the ranking no better."""


def learner(*, seed: int, threads: int) -> dict[str, Any]:
    """Return the parameters of `xgboost.train`; the same seed gives the same trees.

    Features of one window are near copies of another's: with three in ten of them to choose from at
    each node, trees differ and their sum generalises.
    """
    return {
        "objective": "binary:logistic",
        "eval_metric": "aucpr",
        "tree_method": "hist",
        "max_depth": 6,
        "eta": 0.03,
        "colsample_bynode": 0.3,
        "subsample": 0.8,
        "min_child_weight": 5,
        "seed": seed,
        "nthread": threads,
    }
