"""Compile the catalogue: which windows each entity needs and where each statistic lies in scratch.

The kernel computes statistics × windows per entity into one flat float64 scratch array; a vector is
a gather from it. Adding a feature of a known statistic is one line in `schemas.features`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.errors import ConfigurationError
from schemas.features import CATALOGUE, DAY, Entity, Feature

STATISTICS: Final[dict[Entity, tuple[str, ...]]] = {
    "transaction": (
        "amount", "is_round", "hour", "weekday", "is_weekend", "is_night", "channel", "mcc",
        "ip_country_mismatch", "merchant_country_mismatch",
    ),
    "card": (
        "count", "sum", "mean", "max", "small_count", "prior_std", "deviation", "ratio", "rank",
        "distinct_merchants", "distinct_mccs", "distinct_devices", "distinct_countries",
        "distinct_ips", "merchant_is_new", "mcc_is_new", "device_is_new", "country_is_new",
        "hour_deviation", "seconds_since_last", "age", "km_from_last", "speed",
    ),
    "merchant": ("count", "sum", "mean", "prior_std", "deviation", "fraud_count", "fraud_rate", "risk", "distinct_cards", "age"),
    "device": ("count", "sum", "mean", "prior_std", "deviation", "fraud_count", "fraud_rate", "risk", "distinct_cards", "age"),
    "ip": ("count", "sum", "mean", "prior_std", "deviation", "fraud_count", "fraud_rate", "risk", "distinct_cards", "age"),
}  # fmt: skip
"""Names of the statistics by entity; the kernels use the positions in these tuples."""

DISTINCT_COLUMNS: Final = ("merchants", "mccs", "devices", "countries", "ips")
_MOMENTS: Final = {"prior_std", "deviation", "ratio", "rank"}
RATIOS: Final = {"count_ratio": "count", "sum_ratio": "sum"}
ENTITIES: Final[tuple[Entity, ...]] = (
    "transaction",
    "card",
    "merchant",
    "device",
    "ip",
)


class EntityPlan(NamedTuple):
    """What to compute for one entity.

    `windows` ascend (ms). `offset` is where its block [statistic, window] starts in scratch.
    `prior` and `delayed` say for which windows prior moments and delayed fraud counts are wanted;
    `distinct_until[c]` is the longest window of distinct column c, 0 for none.
    """

    windows: npt.NDArray[np.int64]
    offset: int
    prior: npt.NDArray[np.bool_]
    hours: npt.NDArray[np.bool_]
    delayed: npt.NDArray[np.bool_]
    distinct_until: npt.NDArray[np.int64]


class Plan(NamedTuple):
    """The compiled catalogue and the parameters of the label-based features."""

    card: EntityPlan
    merchant: EntityPlan
    device: EntityPlan
    ip: EntityPlan
    scratch_size: int
    source: npt.NDArray[np.int64]
    baseline: npt.NDArray[np.int64]
    baseline_windows: npt.NDArray[np.float64]
    label_delay: int
    merchant_prior: float
    merchant_weight: float


def _entity_plan(catalogue: tuple[Feature, ...], entity: Entity, offset: int) -> EntityPlan:
    mine = [feature for feature in catalogue if feature.entity == entity]
    sizes = {f.window for f in mine} | {f.baseline for f in mine}
    windows = sorted(size for size in sizes if size > 0) or [DAY]

    def wanted(statistics: set[str]) -> npt.NDArray[np.bool_]:
        asked = {f.window for f in mine if f.statistic in statistics}
        return np.array([window in asked for window in windows], np.bool_)

    names = DISTINCT_COLUMNS if entity == "card" else ("cards",)
    until = [
        max((f.window for f in mine if f.statistic == f"distinct_{name}"), default=0)
        for name in names
    ]
    return EntityPlan(
        windows=np.array(windows, np.int64),
        offset=offset,
        prior=wanted(_MOMENTS if entity == "card" else _MOMENTS | {"sum", "mean"}),
        hours=wanted({"hour_deviation"}),
        delayed=wanted({"fraud_count", "fraud_rate", "risk"}),
        distinct_until=np.array(until, np.int64),
    )


def _position(plan: EntityPlan, entity: Entity, statistic: str, window: int) -> int:
    row = STATISTICS[entity].index(statistic)
    column = 0 if window == 0 else plan.windows.tolist().index(window)
    return plan.offset + row * len(plan.windows) + column


def compile_plan(
    catalogue: tuple[Feature, ...] = CATALOGUE,
    *,
    label_delay_ms: int = 7 * DAY,
    merchant_prior: float = 0.005,
    merchant_weight: float = 20.0,
) -> Plan:
    """Return the plan of `catalogue`.

    Raises:
        ConfigurationError: a statistic that the entity does not have, or a delay below 1 ms.
    """
    if label_delay_ms < 1:
        raise ConfigurationError(f"label delay is {label_delay_ms} ms: give at least 1 ms")
    plans: dict[Entity, EntityPlan] = {}
    offset = 0
    for entity in ENTITIES:
        plans[entity] = _entity_plan(catalogue, entity, offset)
        offset += len(STATISTICS[entity]) * len(plans[entity].windows)
    source = np.zeros(len(catalogue), np.int64)
    baseline = np.full(len(catalogue), -1, np.int64)
    baseline_windows = np.ones(len(catalogue))
    for index, feature in enumerate(catalogue):
        statistic = RATIOS.get(feature.statistic, feature.statistic)
        if statistic not in STATISTICS[feature.entity]:
            raise ConfigurationError(
                f"feature {feature.name}: {feature.entity} has no statistic {statistic!r}; "
                f"choose one of {', '.join(STATISTICS[feature.entity])}"
            )
        plan = plans[feature.entity]
        source[index] = _position(plan, feature.entity, statistic, feature.window)
        if feature.baseline:
            baseline[index] = _position(plan, feature.entity, statistic, feature.baseline)
            baseline_windows[index] = feature.baseline / feature.window
    return Plan(
        plans["card"], plans["merchant"], plans["device"], plans["ip"], offset, source, baseline,
        baseline_windows, label_delay_ms, merchant_prior, merchant_weight,
    )  # fmt: skip
