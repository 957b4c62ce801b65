"""SHAP summary plot of a booster: which features move the score, and which way.

The contributions are XGBoost's own exact ones (Lundberg et al., "From local explanations to global
understanding with explainable AI for trees", Nature Machine Intelligence 2020); `shap` draws them.
"""

from __future__ import annotations

import io
import warnings
from typing import Final

import numpy as np
import numpy.typing as npt
import xgboost

ROWS: Final = 600
"""Contributions cost milliseconds a row."""
SHOWN: Final = 20


def shap_summary(
    booster: xgboost.Booster,
    inputs: npt.NDArray[np.float32],
    fraud: npt.NDArray[np.bool_],
    names: tuple[str, ...],
    *,
    seed: int = 0,
) -> tuple[bytes, list[tuple[str, float]]]:
    """Return the beeswarm plot (PNG) and the mean absolute contribution of each column, sorted.

    At most `ROWS` rows of float32[n, k] are drawn, half of them frauds if there are enough: in an
    even sample fraud would be almost invisible.
    """
    chosen = _sample(fraud, seed)
    matrix = xgboost.DMatrix(inputs[chosen], nthread=1)
    booster = booster.copy()
    booster.feature_names = None
    contributions = booster.predict(matrix, pred_contribs=True)[:, :-1]
    mean = np.abs(contributions).mean(axis=0)
    order = np.argsort(-mean, kind="stable")
    ranked = [(names[column], float(mean[column])) for column in order]
    return _beeswarm(contributions, inputs[chosen], names), ranked


def _sample(fraud: npt.NDArray[np.bool_], seed: int) -> npt.NDArray[np.int64]:
    draw = np.random.default_rng(seed)
    frauds, genuine = np.flatnonzero(fraud), np.flatnonzero(~fraud)
    some = draw.choice(frauds, min(len(frauds), ROWS // 2), replace=False)
    rest = draw.choice(genuine, min(len(genuine), ROWS - len(some)), replace=False)
    return np.sort(np.concatenate([some, rest]))


def _beeswarm(
    contributions: npt.NDArray[np.float32],
    inputs: npt.NDArray[np.float32],
    names: tuple[str, ...],
) -> bytes:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import shap

    explanation = shap.Explanation(contributions, data=inputs, feature_names=list(names))
    image = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # columns without any value have no colour
        shap.plots.beeswarm(explanation, max_display=SHOWN, show=False)
        plt.savefig(image, format="png", dpi=80, bbox_inches="tight")
    plt.close("all")
    return image.getvalue()
