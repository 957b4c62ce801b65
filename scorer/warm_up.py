"""Compilation of all kernels before the first transaction arrives."""

from __future__ import annotations

import numpy as np

from schemas.codec.samples import sample_vectors
from schemas.codec.vectors import decode_feature_vectors
from schemas.features import ANOMALY_INPUTS
from scorer.decision.decide import Canary, Serving, decide
from scorer.model.anomaly import AnomalyModel
from scorer.model.bundle import Model, Thresholds
from scorer.model.forest import Forest
from scorer.model.leaf_masks import MIN_MASKED_ROWS
from scorer.model.trees import Tree, join
from scorer.policy.document import compile_policy

POLICY = """{"version": "warm-up", "rules": [
 {"id": "r", "action": "REVIEW", "when": "amount > 0 or score > 0.5", "text": "warm-up"}]}"""


def warm_up() -> None:
    """Decide a few sample transactions. Compiling takes seconds, loading from the cache 0.4 s."""
    stump = Tree(
        left=np.array([1, -1, -1]),
        right=np.array([2, -1, -1]),
        feature=np.array([ANOMALY_INPUTS.start, 0, 0]),
        condition=np.array([1.0, 0.0, 0.0], np.float32),
        missing_right=np.zeros(3, np.bool_),
    )
    trees, _ = join([stump])
    values = np.array([0.0, -5.0, 5.0], np.float32)
    model = Model(
        "warm-up",
        Forest(trees, values, 0.0),
        AnomalyModel(trees, np.abs(values), 1.0),
        np.array([0.0, 1.0]),
        np.array([0.0, 1.0]),
        Thresholds(),
    )
    serving = Serving(compile_policy(POLICY), model, (Canary(model, 0.5),), (model,))
    for count in (1, 8, MIN_MASKED_ROWS):
        decide(decode_feature_vectors(sample_vectors(count)), serving, 0)
