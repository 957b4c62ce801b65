"""Bounds of the gates, read from YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.errors import ConfigurationError

DEFAULT_FILE: Final = Path(__file__).with_name("gates.yaml")
_STRICT: Final = ConfigDict(frozen=True, extra="forbid")


class _Part(BaseModel):
    model_config = _STRICT


class AucBound(_Part):
    """AUC on the holdout must be above `least`."""

    least: float = Field(ge=0.0, lt=1.0)


class ChampionBound(_Part):
    """The low end of the interval of AUC(candidate) − AUC(champion) must be ≥ −margin.

    Rows of the holdout from which the champion has learned, where it looks better than it is, are
    left out while the others hold `least_frauds`; with fewer all rows count, by `seen_margin`.
    """

    margin: float = Field(ge=0.0)
    seen_margin: float = Field(default=0.03, ge=0.0)
    least_frauds: int = Field(default=150, ge=1)


class FoldsBound(_Part):
    """Standard deviation of the AUC over time folds against its mean must be below most_spread."""

    count: int = Field(ge=2)
    least_frauds: int = Field(ge=1)
    most_spread: float = Field(gt=0.0)


class LatencyBound(_Part):
    """Median time for one transaction."""

    most_us: float = Field(gt=0.0)


class BundleBound(_Part):
    """Size of all files of the bundle."""

    most_mb: float = Field(gt=0.0)


class AlertBound(_Part):
    """Share of transactions reviewed or blocked; none at all means a model that does nothing."""

    least: float = Field(ge=0.0)
    most: float = Field(gt=0.0, le=1.0)


class FairnessBound(_Part):
    """Bounds on false-positive rates of the groups of a slice; see gates.yaml."""

    least_rows: int = Field(ge=1)
    most_difference: float = Field(gt=0.0)
    most_ratio: float = Field(ge=1.0)
    ignore_difference: float = Field(ge=0.0)


class GateBounds(_Part):
    """All bounds, as in gates.yaml."""

    auc: AucBound
    champion: ChampionBound
    time_folds: FoldsBound
    latency: LatencyBound
    bundle: BundleBound
    alert_rate: AlertBound
    fairness: FairnessBound


def load_bounds(path: Path | None = None) -> GateBounds:
    """Read bounds; what the file leaves out is as in the package's gates.yaml.

    Raises:
        ConfigurationError: not readable, or a bound is unknown or impossible.
    """
    document = yaml.safe_load(DEFAULT_FILE.read_text())
    if path is not None:
        try:
            given = yaml.safe_load(path.read_text()) or {}
            for part, values in given.items():
                document[part] = {**document.get(part, {}), **values}
        except (OSError, yaml.YAMLError, AttributeError, TypeError) as error:
            raise ConfigurationError(f"cannot read --gates {path}: {error}") from error
    try:
        return GateBounds.model_validate(document)
    except ValidationError as error:
        wrong = [
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}, not {item['input']!r}"
            for item in error.errors()
        ]
        raise ConfigurationError(f"--gates {path}:\n  " + "\n  ".join(wrong)) from error
