"""Bundle: a directory with model, forest arrays, calibration, anomaly arrays and a manifest.

No pickle anywhere. The forest's arrays, which the scorer serves by, stand beside XGBoost's own
file; they are written only if both give the same scores. Written by `python -m trainer bootstrap`,
read by `scorer.model`.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Final

import numpy as np

from schemas import manifest
from schemas.errors import ConfigurationError
from schemas.features import FINGERPRINT
from scorer import model as served
from scorer.forest import Forest, forest_from_json, probabilities
from trainer.batch import Trained

COMPARED: Final = 500
TOLERANCE: Final = 1e-6


def write(directory: Path, model_id: str, trained: Trained) -> str:
    """Write the bundle and return the hex SHA-256 of its manifest.

    The directory appears whole or not at all.

    Raises:
        ConfigurationError: the directory exists already or cannot be written, or the arrays give
            other scores than XGBoost.
    """
    if directory.exists():
        raise ConfigurationError(f"{directory} exists: give another --output or --model-id")
    partial = directory.with_name(f".{directory.name}.{os.getpid()}.partial")
    forest = _same_forest(trained)
    knots = {"x": trained.knots_x.tolist(), "y": trained.knots_y.tolist()}
    texts = {
        served.CALIBRATION: knots,
        served.THRESHOLDS: trained.thresholds,
        served.HISTOGRAMS: trained.histograms,
        "metrics.json": trained.metrics,
    }
    try:
        partial.mkdir(parents=True)
        trained.booster.save_model(partial / served.BOOSTER)
        np.savez(partial / served.FOREST, **forest.arrays())
        np.savez(partial / served.ANOMALY, **trained.anomaly.arrays())
        for name, content in texts.items():
            (partial / name).write_text(json.dumps(content))
        sha256 = manifest.write_manifest(partial, model_id, FINGERPRINT)
        partial.rename(directory)
    except OSError as error:
        raise ConfigurationError(f"cannot write bundle {directory}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return sha256


def _same_forest(trained: Trained) -> Forest:
    """Return the booster as arrays, compared on rows that lie on its splits and beside them."""
    forest = forest_from_json(bytes(trained.booster.save_raw("json")), served.COLUMNS)
    draw = np.random.default_rng(0)
    inner = np.flatnonzero(~np.isnan(forest.trees.condition))
    rows = np.full((COMPARED, served.COLUMNS), np.nan, np.float32)
    for node in draw.choice(inner, 100 * COMPARED if len(inner) else 0):
        side = np.float32(draw.choice([-np.inf, np.inf]))
        value = forest.trees.condition[node]
        rows[draw.integers(COMPARED), forest.trees.split[node] >> 1] = (
            value if draw.random() < 0.5 else np.nextafter(value, side)
        )
    expected = trained.booster.inplace_predict(rows, validate_features=False)
    worst = float(np.max(np.abs(probabilities(forest, rows) - expected)))
    if worst > TOLERANCE:
        raise ConfigurationError(
            f"the forest's arrays differ from XGBoost by {worst:g}, {TOLERANCE:g} is allowed: "
            "this XGBoost stores its trees in another way"
        )
    return forest
