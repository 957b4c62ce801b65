"""Offline metrics, calibration knots and reference histograms. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from schemas.errors import ConfigurationError

Floats = npt.NDArray[np.float64]
MAX_KNOTS = 256
BINS = 10


def require_both_classes(fraud: npt.NDArray[np.bool_], part: str) -> None:
    """Raise ConfigurationError unless `fraud` holds at least one of each class."""
    frauds = int(fraud.sum())
    if frauds == 0 or frauds == len(fraud):
        raise ConfigurationError(
            f"the {part} part has {frauds} frauds among {len(fraud)} labelled transactions: both "
            "classes are needed; check the mapping's 'label' or give a longer history"
        )


def calibration_knots(
    score: Floats, fraud: npt.NDArray[np.bool_], weight: npt.NDArray[np.float32] | None = None
) -> tuple[Floats, Floats]:
    """Fit centred isotonic regression; return at most 256 knots (x, y) for `numpy.interp`.

    Isotonic regression gives steps, on which rows are tied and no threshold can lie. Each step is
    drawn together at the mean of its scores, and what lies between is interpolated, so that y
    increases between the first and the last knot. Source: Oron and Flournoy, Centered isotonic
    regression: point and interval estimation for dose-response studies (2017).
    """
    isotonic = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    fitted = np.asarray(isotonic.fit(score, fraud, weight).predict(score), np.float64)
    y, step = np.unique(fitted, return_inverse=True)
    each = np.ones(len(score)) if weight is None else weight.astype(np.float64)
    rows = np.bincount(step, weights=each)
    x = np.bincount(step, weights=each * score) / rows
    if len(x) > MAX_KNOTS:
        keep = np.unique(np.linspace(0, len(x) - 1, MAX_KNOTS).round().astype(np.int64))
        x, y = x[keep], y[keep]
    return x, y


def metrics(score: Floats, fraud: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Return AUC, average precision, fraud rate and rows of a holdout with both classes."""
    return {
        "auc": float(roc_auc_score(fraud, score)),
        "average_precision": float(average_precision_score(fraud, score)),
        "fraud_rate": float(fraud.mean()),
        "rows": float(len(fraud)),
    }


def histogram(values: npt.NDArray[Any]) -> dict[str, Any]:
    """Return inner edges (deciles), counts of the edges + 1 bins, and the number missing."""
    finite = values[np.isfinite(values)].astype(np.float64)
    if len(finite) == 0:
        return {"edges": [], "counts": [0], "missing": len(values)}
    edges = np.unique(np.quantile(finite, np.linspace(0, 1, BINS + 1)[1:-1]))
    counts = np.bincount(np.searchsorted(edges, finite, side="left"), minlength=len(edges) + 1)
    return {
        "edges": edges.tolist(),
        "counts": counts.tolist(),
        "missing": len(values) - len(finite),
    }
