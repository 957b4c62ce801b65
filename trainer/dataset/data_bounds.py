"""Bounds of the data check, from a YAML file or by default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from schemas.errors import ConfigurationError
from schemas.features import NAMES

Share = Annotated[float, Field(ge=0, le=1)]
Range = tuple[float, float]


class DataBounds(BaseModel):
    """What a dataset must be like; every field can stand in the YAML file under its name.

    rows, frauds: at least so many (genuine rows: as many as frauds).
    fraud_rate: lowest and highest share of frauds.
    missing, missing_of: highest share of missing values, and by feature where that differs.
    missing_growth: highest share above that of the champion's data, where there is a champion, for
        features that `missing_of` does not name; as the monitor's rule missing_features.
    ranges: lowest and highest value by feature; out_of_range: highest share outside (of a
        hundred thousand rows one has a fraud rate above 1: windows of shops are summed in tiles).
    volume: lowest and highest count of a day by the median day's, from `volume_days` days on.
    duplicates: highest share of transactions that come twice.
    labels_before_transactions: highest share of labels that are older than their transaction.
    leakage_auc: highest AUC of a feature alone; leakage_exempt: features that may exceed it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int = Field(default=1_000, ge=1)
    frauds: int = Field(default=20, ge=1)
    fraud_rate: Range = (1e-5, 0.3)
    missing: Share = 1.0
    missing_of: dict[str, Share] = Field(default_factory=dict)
    missing_growth: Share = 0.2
    ranges: dict[str, Range] = Field(default_factory=dict)
    out_of_range: Share = 1e-4
    volume: Range = (0.2, 5.0)
    volume_days: int = Field(default=5, ge=1)
    duplicates: Share = 0.0
    labels_before_transactions: Share = 0.001
    leakage_auc: float = Field(default=0.98, ge=0.5, le=1)
    leakage_exempt: frozenset[str] = frozenset()

    @field_validator("fraud_rate", "volume")
    @classmethod
    def _is_range(cls, value: Range) -> Range:
        if value[0] > value[1]:
            raise ValueError("the lowest comes first")
        return value

    @model_validator(mode="after")
    def _features_exist(self) -> Self:
        named = {*self.missing_of, *self.ranges, *self.leakage_exempt}
        unknown = sorted(named - set(NAMES))
        if unknown:
            raise ValueError(f"no such features: {', '.join(unknown)}")
        return self

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a YAML file.

        Raises:
            ConfigurationError: unreadable, or names every field that is wrong.
        """
        try:
            document = yaml.safe_load(path.read_text()) or {}
        except (OSError, yaml.YAMLError) as error:
            raise ConfigurationError(f"cannot read bounds {path}: {error}") from error
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            wrong = [
                f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}"
                for item in error.errors()
            ]
            raise ConfigurationError(f"bounds {path}:\n  " + "\n  ".join(wrong)) from error
