"""The compiled walk gives XGBoost's scores, and refuses models that it would score otherwise."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xgboost

from schemas.errors import ConfigurationError
from scorer.forest import forest_from_json, probabilities

FEATURES = 70


def trained() -> xgboost.Booster:
    draw = np.random.default_rng(5)
    matrix = draw.normal(size=(4000, FEATURES)).astype(np.float32)
    matrix[draw.random(matrix.shape) < 0.2] = np.nan
    target = np.nan_to_num(matrix[:, 0]) + np.nan_to_num(matrix[:, 7]) ** 2 > 1.0
    data = xgboost.DMatrix(matrix, target)
    parameters = {"objective": "binary:logistic", "max_depth": 6, "eta": 0.1, "nthread": 1}
    return xgboost.train(parameters, data, 120)


def test_agrees_with_xgboost_on_100_000_rows_with_missing_values() -> None:
    booster = trained()
    forest = forest_from_json(bytes(booster.save_raw("json")), FEATURES)
    draw = np.random.default_rng(6)
    matrix = draw.normal(size=(100_000, FEATURES)).astype(np.float32)
    matrix[draw.random(matrix.shape) < 0.3] = np.nan
    # rows that lie exactly on split conditions: `<` and `<=` must not be confused
    inner = np.flatnonzero(forest.left >= 0)[:5000]
    matrix[np.arange(len(inner)), forest.feature[inner]] = forest.value[inner]
    booster.set_param({"nthread": 1})
    expected = booster.inplace_predict(matrix)
    assert np.max(np.abs(probabilities(forest, matrix) - expected)) <= 1e-6


def test_refuses_what_it_would_score_otherwise() -> None:
    raw = bytes(trained().save_raw("json"))
    with pytest.raises(ConfigurationError, match="70 features, expected 69"):
        forest_from_json(raw, 69)
    other = json.loads(raw)
    other["learner"]["objective"]["name"] = "reg:squarederror"
    with pytest.raises(ConfigurationError, match="squarederror"):
        forest_from_json(json.dumps(other).encode(), FEATURES)
    loop = json.loads(raw)
    loop["learner"]["gradient_booster"]["model"]["trees"][0]["left_children"][0] = 0
    with pytest.raises(ConfigurationError, match="below its parent"):
        forest_from_json(json.dumps(loop).encode(), FEATURES)
    with pytest.raises(ConfigurationError):
        forest_from_json(b"not json", FEATURES)
