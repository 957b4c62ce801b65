"""How XGBoost learns by default: one place for every training."""

from __future__ import annotations

from typing import Any, Final

ROUNDS: Final = 300
GENUINE_PER_FRAUD: Final = 50
"""More of them make training slower but, on the generated world, the ranking no better."""


def learner(*, seed: int, threads: int) -> dict[str, Any]:
    """Return the parameters of `xgboost.train`; the same seed gives the same trees."""
    return {
        "objective": "binary:logistic",
        "eval_metric": "aucpr",
        "tree_method": "hist",
        "max_depth": 6,
        "eta": 0.1,
        "seed": seed,
        "nthread": threads,
    }
