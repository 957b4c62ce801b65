"""Why a transaction was not approved, in plain language. Pure."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from schemas.features import ANOMALY_FEATURE, CATALOGUE
from schemas.records import Reason
from schemas.words.feature_words import feature_text
from scorer.policy.document import ListPart
from scorer.policy.expressions import Rule

MAX_FEATURES: Final = 4
"""Largest number of features among the reasons."""


def feature_reasons(
    inputs: npt.NDArray[np.float32], contributions: npt.NDArray[np.float64]
) -> list[Reason]:
    """Return the features that raise one row's score most, the strongest first.

    `inputs` and `contributions` have shape (71,); contributions are in log-odds.
    """
    strongest = np.argsort(-contributions)[:MAX_FEATURES]
    return [
        {
            "code": CATALOGUE[column].name if column < len(CATALOGUE) else ANOMALY_FEATURE,
            "text": feature_text(column, float(inputs[column])),
            "contribution": float(contributions[column]),
        }
        for column in strongest.tolist()
        if contributions[column] > 0
    ]


def hit_reason(hit: Rule | ListPart) -> Reason:
    """Return the reason of a rule or list that fired; it has no contribution."""
    code = hit.rule_id if isinstance(hit, Rule) else hit.id
    return {"code": code, "text": hit.text, "contribution": None}
