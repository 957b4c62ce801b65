"""Compiles the catalogue into a plan for the kernel.

The kernel computes all statistics of one entity, for all windows, into a float64 scratch array and
gathers the entity's part of the vector from it. The plan says which windows are needed and where
each feature lies in scratch. A feature of a known statistic takes one line in `schemas.features`.
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
"""The names of the statistics by entity; the kernels use their positions in these tuples."""

_MOMENTS: Final = {"prior_std", "deviation", "ratio", "rank"}
RATIOS: Final = {"count_ratio": "count", "sum_ratio": "sum"}


class EntityPlan(NamedTuple):
    """What to compute for one entity, and its place in the vector.

    `windows` (ms) ascend. Scratch is float64[size], laid out as [statistic, window]. `prior`,
    `hours` and `delayed` are flags by window: whether prior moments, the usual hour and delayed
    fraud counts are needed. Feature `features[k]` of the vector is scratch[sources[k]]; feature
    `features[ratios[i]]` is that divided by scratch[baselines[i]] / baseline_windows[i].
    """

    windows: npt.NDArray[np.int64]
    size: int
    prior: npt.NDArray[np.bool_]
    hours: npt.NDArray[np.bool_]
    delayed: npt.NDArray[np.bool_]
    features: npt.NDArray[np.int64]
    sources: npt.NDArray[np.int64]
    ratios: npt.NDArray[np.int64]
    baselines: npt.NDArray[np.int64]
    baseline_windows: npt.NDArray[np.float64]
    label_delay: int
    risk_prior: float
    risk_weight: float


class FeaturePlan(NamedTuple):
    """The compiled catalogue, by entity."""

    transaction: EntityPlan
    card: EntityPlan
    merchant: EntityPlan
    device: EntityPlan
    ip: EntityPlan
    label_delay: int


def _position(entity: Entity, windows: list[int], name: str, statistic: str, window: int) -> int:
    if statistic not in STATISTICS[entity]:
        raise ConfigurationError(
            f"feature {name}: {entity} has no statistic {statistic!r}; "
            f"choose one of {', '.join(STATISTICS[entity])}"
        )
    column = 0 if window == 0 else windows.index(window)
    return STATISTICS[entity].index(statistic) * len(windows) + column


def _entity_plan(
    catalogue: tuple[Feature, ...], entity: Entity, label_delay: int, prior: float, weight: float
) -> EntityPlan:
    mine = [(index, f) for index, f in enumerate(catalogue) if f.entity == entity]
    sizes = {f.window for _, f in mine} | {f.baseline for _, f in mine}
    windows = sorted(size for size in sizes if size > 0) or [DAY]

    def wanted(statistics: set[str]) -> npt.NDArray[np.bool_]:
        asked = {f.window for _, f in mine if f.statistic in statistics}
        return np.array([window in asked for window in windows], np.bool_)

    def position(f: Feature, window: int) -> int:
        statistic = RATIOS.get(f.statistic, f.statistic)
        return _position(entity, windows, f.name, statistic, window)

    ratios = [k for k, (_, f) in enumerate(mine) if f.baseline]
    return EntityPlan(
        windows=np.array(windows, np.int64),
        size=len(STATISTICS[entity]) * len(windows),
        prior=wanted(_MOMENTS if entity == "card" else _MOMENTS | {"sum", "mean"}),
        hours=wanted({"hour_deviation"}),
        delayed=wanted({"fraud_count", "fraud_rate", "risk"}),
        features=np.array([index for index, _ in mine], np.int64),
        sources=np.array([position(f, f.window) for _, f in mine], np.int64),
        ratios=np.array(ratios, np.int64),
        baselines=np.array([position(mine[k][1], mine[k][1].baseline) for k in ratios], np.int64),
        baseline_windows=np.array([mine[k][1].baseline / mine[k][1].window for k in ratios]),
        label_delay=label_delay,
        risk_prior=prior,
        risk_weight=weight,
    )


def compile_plan(
    catalogue: tuple[Feature, ...] = CATALOGUE,
    *,
    label_delay_ms: int = 7 * DAY,
    merchant_prior: float = 0.005,
    merchant_weight: float = 20.0,
) -> FeaturePlan:
    """Return the plan of `catalogue`; see `live.LiveEngine` for the other arguments.

    Raises:
        ConfigurationError: a feature names an unknown statistic, or the delay is below 1 ms.
    """
    if label_delay_ms < 1:
        raise ConfigurationError(
            f"the label delay is {label_delay_ms} ms: it must be at least 1 ms"
        )

    def of(entity: Entity) -> EntityPlan:
        return _entity_plan(catalogue, entity, label_delay_ms, merchant_prior, merchant_weight)

    return FeaturePlan(
        of("transaction"), of("card"), of("merchant"), of("device"), of("ip"), label_delay_ms
    )
