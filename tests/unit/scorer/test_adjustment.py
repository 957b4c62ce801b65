"""An adjustment changes scores as it says, adds up, and is refused when malformed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.errors import ConfigurationError
from schemas.features import FINGERPRINT, VECTOR_SIZE
from schemas.manifest import write_manifest
from scorer.model.adjustment import FILE, Adjustment, log_odds, parse
from scorer.model.bundle import Model, load_model
from tests.support.scorer.stand_ins import small_bundle, small_model


def change(**fields: Any) -> Adjustment:
    """Return an adjustment by two features."""
    values: dict[str, Any] = {
        "base": "m", "version": 1, "created_at": 5, "bound": 1.5, "champion": 0.1,
        "intercept": -0.2, "features": ("amount", "card_tx_count_24h"),
        "means": np.array([5.0, 1.0]), "scales": np.array([1.0, 0.5]),
        "weights": np.array([0.4, -0.3]), **fields,
    }  # fmt: skip
    return Adjustment(**values)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return small_model(tmp_path_factory.mktemp("bundle") / "m", "m")


@pytest.fixture(scope="module")
def inputs(model: Model) -> Any:
    draw = np.random.default_rng(3)
    vectors = draw.normal(5.0, 20.0, (2_000, VECTOR_SIZE)).astype(np.float32)
    vectors[:, 0] = draw.uniform(0, 1_500, len(vectors))
    vectors[draw.random(vectors.shape) < 0.2] = np.nan
    return model.inputs(vectors)


def test_log_odds_move_by_what_the_file_says(model: Model, inputs: Any) -> None:
    before = log_odds(model.probability(inputs))
    squeezed = np.sign(inputs) * np.log1p(np.abs(inputs.astype(np.float64)))
    amount = np.nan_to_num((squeezed[:, 0] - 5.0) / 1.0) * 0.4
    count = np.nan_to_num((squeezed[:, 12] - 1.0) / 0.5) * -0.3
    expected = np.clip(0.1 * before - 0.2 + amount + count, -1.5, 1.5)
    adjusted = replace(model, adjustment=change())
    after = log_odds(adjusted.probability(inputs))
    assert np.abs(expected).max() == 1.5
    assert np.abs(expected).min() < 0.5
    inner = np.abs(before + expected) < 8  # float32 probabilities say little beyond
    assert inner.sum() > 500
    np.testing.assert_allclose(after[inner], (before + expected)[inner], atol=1e-3)
    scores = adjusted.score(inputs)
    assert ((scores >= 0) & (scores <= 1)).all()


def test_without_an_adjustment_nothing_is_computed(
    model: Model, inputs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = model.score(inputs)
    zero = replace(model, adjustment=change(champion=0.0, intercept=0.0, weights=np.zeros(2)))
    np.testing.assert_allclose(zero.score(inputs), before, atol=1e-6)
    monkeypatch.setattr(Adjustment, "adjusted", None)
    monkeypatch.setattr(Adjustment, "contributions", None)
    assert np.array_equal(model.score(inputs), before)
    model.contributions(inputs)


def test_contributions_add_up_to_the_adjustment(model: Model, inputs: Any) -> None:
    mine = change(intercept=0.0, champion=0.0)
    adjusted = replace(model, adjustment=mine)
    added = mine.added(inputs, log_odds(model.probability(inputs)))
    more = adjusted.contributions(inputs) - model.contributions(inputs)
    np.testing.assert_allclose(more.sum(axis=1), added, atol=1e-9)
    assert np.flatnonzero(np.abs(more).sum(axis=0)).tolist() == [0, 12]
    scaled = replace(model, adjustment=change(weights=np.zeros(2), intercept=0.0, bound=10.0))
    np.testing.assert_allclose(
        scaled.contributions(inputs), 1.1 * model.contributions(inputs), rtol=1e-9
    )


def test_a_file_gives_the_same_adjustment() -> None:
    again = parse(change().document().encode())
    assert again.document() == change().document()
    assert again.columns.tolist() == [0, 12]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 2),
        ("features", ["amount", "no_such_feature"]),
        ("features", ["amount", "amount"]),
        ("weights", [0.1]),
        ("scales", [1.0, 0.0]),
        ("means", [1.0, float("nan")]),
        ("bound", 50.0),
        ("champion", None),
        ("weights", None),
    ],
)
def test_a_malformed_adjustment_is_refused(tmp_path: Path, field: str, value: object) -> None:
    small_bundle(tmp_path / "m", "m")
    document = json.loads(change().document())
    for content, good in ((document, True), ({**document, field: value}, False)):
        (tmp_path / "m" / FILE).write_text(json.dumps(content))
        digest = write_manifest(tmp_path / "m", "m", FINGERPRINT)
        if good:
            assert load_model(tmp_path / "m", digest).adjustment is not None
            continue
        with pytest.raises(ConfigurationError, match="cannot be served"):
            load_model(tmp_path / "m", digest)
