"""Slices of the holdout: by channel, amount band and card country. Pure."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from schemas.columns import CHANNELS, TransactionColumns

Texts = npt.NDArray[np.str_]
Flags = npt.NDArray[np.bool_]
AMOUNT_EDGES: Final = (1_000, 5_000, 20_000, 100_000)
"""Minor units of the base currency."""
AMOUNT_BANDS: Final = ("under 10", "10 to 50", "50 to 200", "200 to 1000", "1000 and more")
OTHER: Final = "other"
"""All groups that are too small to be judged alone."""


@dataclass(frozen=True, slots=True)
class SliceGroup:
    """One group of a slice and how it fares; rates are NaN where nothing can be measured."""

    slice: str
    group: str
    rows: int
    frauds: int
    false_positive_rate: float
    recall: float
    precision: float
    alert_rate: float


@dataclass(frozen=True, slots=True)
class SliceReport:
    """Groups of one slice, and how far their false-positive rates lie apart.

    `difference` is the largest minus the smallest, `ratio` the largest against the overall one
    (1 when there is none).
    """

    name: str
    groups: tuple[SliceGroup, ...]
    difference: float
    ratio: float
    worst: str


def slice_labels(transactions: TransactionColumns) -> dict[str, Texts]:
    """Return the group of each transaction, str[n], for each slice."""
    country = transactions.card_country
    codes, place = np.unique(country, return_inverse=True)
    names = [chr(code >> 8) + chr(code & 255) if code else "unknown" for code in codes.tolist()]
    return {
        "channel": np.array(CHANNELS)[transactions.channel],
        "amount band": np.array(AMOUNT_BANDS)[
            np.searchsorted(AMOUNT_EDGES, transactions.amount, side="right")
        ],
        "card country": np.array(names)[place],
    }


def slice_reports(
    labels: dict[str, Texts], fraud: Flags, alerted: Flags, *, min_rows: int
) -> list[SliceReport]:
    """Return a report for each slice; groups of fewer genuine rows than `min_rows` are joined."""
    return [
        _report(name, _joined(label, fraud, min_rows), fraud, alerted, min_rows)
        for name, label in labels.items()
    ]


def _joined(label: Texts, fraud: Flags, min_rows: int) -> Texts:
    groups, place = np.unique(label, return_inverse=True)
    small = np.bincount(place, weights=~fraud, minlength=len(groups)) < min_rows
    return np.where(small, OTHER, groups.astype(object)).astype(str)[place]


def _report(name: str, label: Texts, fraud: Flags, alerted: Flags, min_rows: int) -> SliceReport:
    from fairlearn.metrics import MetricFrame

    measures: dict[str, Callable[[Any, Any], float]] = {
        "rows": lambda fraud, _: len(fraud),
        "frauds": lambda fraud, _: np.sum(fraud),
        "false_positive_rate": lambda fraud, alerted: _share(alerted[~fraud]),
        "recall": lambda fraud, alerted: _share(alerted[fraud]),
        "precision": lambda fraud, alerted: _share(fraud[alerted]),
        "alert_rate": lambda fraud, alerted: _share(alerted),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of groups without frauds
        frame = MetricFrame(
            metrics={key: _on_flags(measure) for key, measure in measures.items()},
            y_true=fraud,
            y_pred=alerted,
            sensitive_features=label,
        )
    table = frame.by_group
    groups = tuple(
        SliceGroup(
            name, str(group), int(row["rows"]), int(row["frauds"]), *map(float, row.iloc[2:])
        )
        for group, row in table.iterrows()
    )
    judged = [
        group
        for group in groups
        if group.rows - group.frauds >= min_rows and np.isfinite(group.false_positive_rate)
    ]
    overall = float(frame.overall["false_positive_rate"])
    if not judged or not overall > 0:
        return SliceReport(name, groups, 0.0, 1.0, "none")
    worst = max(judged, key=lambda group: group.false_positive_rate)
    least = min(group.false_positive_rate for group in judged)
    return SliceReport(
        name, groups, worst.false_positive_rate - least,
        worst.false_positive_rate / overall, worst.group,
    )  # fmt: skip


def _on_flags(measure: Callable[[Any, Any], float]) -> Callable[[Any, Any], float]:
    """Return the measure on arrays instead of columns of a pandas frame."""
    return lambda fraud, alerted: measure(np.asarray(fraud, bool), np.asarray(alerted, bool))


def _share(flags: Flags) -> float:
    return float(flags.mean()) if len(flags) else float("nan")
