"""Why a transaction was not approved, in plain language. Pure; `scorer.decide` calls it."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from schemas.features import ANOMALY_FEATURE, CATALOGUE
from schemas.records import Reason
from scorer.policy import Rule
from scorer.policy_document import ListPart

TOP: Final = 4
"""Features named at most."""
ENTITY_WORDS: Final = {
    "transaction": "",
    "card": "card: ",
    "merchant": "merchant: ",
    "device": "device: ",
    "ip": "address: ",
}
_UNITLESS: Final = frozenset({"0/1", "code", "ratio", "share", "day"})


def feature_text(column: int, value: float) -> str:
    """Return what a column's value says.

    >>> feature_text(11, 12.0)
    'card: transactions in 1 h: 12'
    """
    if column == len(CATALOGUE):
        return f"unusual behaviour of the card: anomaly {value:.2f} of 1"
    feature = CATALOGUE[column]
    shown = "unknown" if np.isnan(value) else f"{value:,.6g}"
    words = ENTITY_WORDS[feature.entity]
    if feature.unit == "0/1":
        return f"{words}{feature.description}: {'yes' if value else 'no'}"
    if feature.unit in _UNITLESS:
        return f"{words}{feature.description}: {shown}"
    if feature.description.startswith("in "):
        return f"{words}{feature.unit} {feature.description}: {shown}"
    return f"{words}{feature.description}: {shown} {feature.unit}"


def feature_reasons(
    inputs: npt.NDArray[np.float32], contributions: npt.NDArray[np.float64]
) -> list[Reason]:
    """Return the features of one row that raise the score most, strongest first.

    `inputs` and `contributions` have shape (71,); contributions are in log-odds.
    """
    strongest = np.argsort(-contributions)[:TOP]
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
    """Return the reason that a rule or list gives."""
    code = hit.rule_id if isinstance(hit, Rule) else hit.id
    return {"code": code, "text": hit.text, "contribution": None}
