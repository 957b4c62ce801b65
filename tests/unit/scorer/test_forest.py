"""The compiled walk gives XGBoost's scores and contributions, and refuses what it would not."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xgboost

from schemas.errors import ConfigurationError
from scorer.model.forest import contributions, forest_from_json, probabilities

FEATURES = 70


@pytest.fixture(scope="module")
def booster() -> xgboost.Booster:
    draw = np.random.default_rng(5)
    matrix = draw.normal(size=(4000, FEATURES)).astype(np.float32)
    matrix[draw.random(matrix.shape) < 0.2] = np.nan
    target = np.nan_to_num(matrix[:, 0]) + np.nan_to_num(matrix[:, 7]) ** 2 > 1.0
    data = xgboost.DMatrix(matrix, target)
    parameters = {"objective": "binary:logistic", "max_depth": 6, "eta": 0.1, "nthread": 1}
    return xgboost.train(parameters, data, 120)


def test_agrees_with_xgboost_on_100_000_rows_with_missing_values(booster: xgboost.Booster) -> None:
    forest = forest_from_json(bytes(booster.save_raw("json")), FEATURES)
    draw = np.random.default_rng(6)
    matrix = draw.normal(size=(100_000, FEATURES)).astype(np.float32)
    matrix[draw.random(matrix.shape) < 0.3] = np.nan
    # rows that lie exactly on split conditions: `<` and `<=` must not be confused
    trees = forest.trees
    inner = np.flatnonzero(~np.isnan(trees.condition))[:5000]
    matrix[np.arange(len(inner)), trees.split[inner] >> 1] = trees.condition[inner]
    matrix[::500, 3] = np.inf
    booster.set_param({"nthread": 1})
    expected = booster.inplace_predict(matrix)
    assert np.max(np.abs(probabilities(forest, matrix) - expected)) <= 1e-6


def test_contributions_are_xgboosts_approximate_ones(booster: xgboost.Booster) -> None:
    forest = forest_from_json(bytes(booster.save_raw("json")), FEATURES)
    draw = np.random.default_rng(7)
    matrix = draw.normal(size=(2_000, FEATURES)).astype(np.float32)
    matrix[draw.random(matrix.shape) < 0.3] = np.nan
    expected = booster.predict(xgboost.DMatrix(matrix), pred_contribs=True, approx_contribs=True)
    np.testing.assert_allclose(contributions(forest, matrix), expected[:, :-1], atol=2e-5)


def test_refuses_what_it_would_score_otherwise(booster: xgboost.Booster) -> None:
    raw = bytes(booster[:3].save_raw("json"))
    with pytest.raises(ConfigurationError, match="70 features, expected 69"):
        forest_from_json(raw, 69)
    other = json.loads(raw)
    other["learner"]["objective"]["name"] = "reg:squarederror"
    with pytest.raises(ConfigurationError, match="squarederror"):
        forest_from_json(json.dumps(other).encode(), FEATURES)
    dropped = json.loads(raw)
    dropped["learner"]["gradient_booster"]["name"] = "dart"
    with pytest.raises(ConfigurationError, match="by dart"):
        forest_from_json(json.dumps(dropped).encode(), FEATURES)
    categorical = json.loads(raw)
    categorical["learner"]["gradient_booster"]["model"]["trees"][1]["split_type"][0] = 1
    with pytest.raises(ConfigurationError, match="categorical"):
        forest_from_json(json.dumps(categorical).encode(), FEATURES)
    loop = json.loads(raw)
    loop["learner"]["gradient_booster"]["model"]["trees"][0]["left_children"][0] = 0
    with pytest.raises(ConfigurationError, match="does not follow its parent"):
        forest_from_json(json.dumps(loop).encode(), FEATURES)
    joined = json.loads(raw)
    tree = joined["learner"]["gradient_booster"]["model"]["trees"][0]
    tree["right_children"][0] = tree["left_children"][0]
    with pytest.raises(ConfigurationError, match="two parents"):
        forest_from_json(json.dumps(joined).encode(), FEATURES)
    with pytest.raises(ConfigurationError):
        forest_from_json(b"not json", FEATURES)
