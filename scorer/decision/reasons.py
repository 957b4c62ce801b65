"""Why a transaction was not approved, in plain language. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from schemas.columns import CHANNELS
from schemas.features import ANOMALY_FEATURE, CATALOGUE, Feature
from schemas.records import Reason
from scorer.policy.document import ListPart
from scorer.policy.expressions import Rule

TOP: Final = 4
"""Features named at most."""
WHOLE: Final = 1_000.0
"""From here on, digits behind the point say nothing."""
ENTITY_WORDS: Final = {
    "transaction": "",
    "card": "card: ",
    "merchant": "merchant: ",
    "device": "device: ",
    "ip": "address: ",
}
YES_NO: Final = {
    "amount_is_round": ("a round amount", "not a round amount"),
    "is_weekend": ("at the weekend", "on a working day"),
    "is_night": ("at night", "by day"),
    "ip_country_mismatch": (
        "the address is in another country than the card",
        "the address is in the card's country",
    ),
    "merchant_country_mismatch": (
        "the merchant is in another country than the card",
        "the merchant is in the card's country",
    ),
    "card_merchant_is_new": (
        "first time at this merchant in 30 d",
        "has been at this merchant within 30 d",
    ),
    "device_fingerprint_new": (
        "first time with this device in 30 d",
        "this device was used within 30 d",
    ),
    "card_country_is_new": (
        "first time in this country in 30 d",
        "has been in this country within 30 d",
    ),
    "card_mcc_is_new": (
        "first time in this merchant category in 30 d",
        "has been in this merchant category within 30 d",
    ),
}
ONE: Final = {
    "transactions": "transaction",
    "cards": "card",
    "merchants": "merchant",
    "devices": "device",
    "addresses": "address",
    "countries": "country",
    "categories": "category",
    "frauds": "fraud",
    "standard deviations": "standard deviation",
}
"""Units of which one is called otherwise."""
TIMES: Final = frozenset({"s", "d"})
DAYS: Final = (
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
)  # fmt: skip
SPECIAL: Final[dict[str, Callable[[float], str]]] = {
    "amount": lambda value: f"amount {value:,.2f}",
    "hour_of_day": lambda value: f"at {value:.0f} h UTC",
    "day_of_week": lambda value: f"on a {DAYS[int(value) % 7]}",
    "channel_code": lambda value: f"channel {CHANNELS[int(value) % len(CHANNELS)]}",
    "mcc_code": lambda value: f"merchant category {value:.0f}",
    "card_small_tx_count_1h": lambda value: f"{value:.0f} transactions below 5.00 in 1 h",
}


def feature_text(column: int, value: float) -> str:
    """Return what a column's value says, for a person.

    >>> feature_text(11, 12.0)
    'card: 12 transactions in 1 h'
    """
    if column == len(CATALOGUE):
        return f"unusual behaviour of the card: {value:.2f} on a scale to 1"
    feature = CATALOGUE[column]
    return ENTITY_WORDS[feature.entity] + _statement(feature, value)


def _statement(feature: Feature, value: float) -> str:
    description = feature.description.replace(", ending D ago", ", before the label delay")
    counts = description.startswith(("in ", "since "))
    if np.isnan(value):
        what = YES_NO[feature.name][0] if feature.name in YES_NO else description
        unit = "time" if feature.unit in TIMES else feature.unit
        return f"unknown: {unit} {what}" if counts else f"unknown: {what}"
    if feature.name in YES_NO:
        return YES_NO[feature.name][0 if value else 1]
    if feature.name in SPECIAL:
        return SPECIAL[feature.name](value)
    if feature.unit == "share":
        return f"{description}: {value:.1%}"
    if feature.unit == "ratio":
        return f"{description}: {value:,.3g} times"
    if feature.unit == "major units":
        return f"{description}: {value:,.2f}"
    shown = f"{value:,.4g}" if value < WHOLE else f"{value:,.0f}"
    unit = ONE.get(feature.unit, feature.unit) if shown == "1" else feature.unit
    return f"{shown} {unit} {description}" if counts else f"{description}: {shown} {unit}"


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
