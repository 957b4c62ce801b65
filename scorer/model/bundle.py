"""A verified model bundle in memory: vectors in, calibrated scores out. Its only I/O is loading.

Bundles are loaded on a background thread while the scorer answers. They hold plain arrays, which
load within milliseconds, so that loading does not delay answers. Whatever is wrong with a bundle,
loading it raises ConfigurationError and nothing else: its files may come from anybody.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from schemas.errors import ConfigurationError, FraudError
from schemas.features import FINGERPRINT, VECTOR_SIZE
from schemas.manifest import ANYBODY, BundleTrust, read_verified
from scorer.model import adjustment
from scorer.model.adjustment import Adjustment
from scorer.model.anomaly import AnomalyModel, anomaly_from_arrays, anomaly_scores
from scorer.model.forest import Forest, contributions, forest_from_arrays, probabilities
from scorer.model.stored_arrays import read_arrays

COLUMNS: Final = VECTOR_SIZE + 1
"""Number of inputs: the catalogue's features and the anomaly score."""
BOOSTER, FOREST, ANOMALY, CALIBRATION, THRESHOLDS, HISTOGRAMS = (
    "model.ubj", "forest.npz", "anomaly.npz", "calibration.json", "thresholds.json",
    "histograms.json",
)  # fmt: skip
MAX_ROW_S: Final = 0.003
"""A model that needs longer for one transaction is refused."""
WARM_UP_RUNS: Final = 20
HOPELESS: Final = 100.0
"""A model that takes so many times MAX_ROW_S once is not timed again."""
Floats = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Limits on the calibrated score: BLOCK above `block`, else REVIEW above `review`."""

    block: float = 0.95
    review: float = 0.75


@dataclass(frozen=True, slots=True)
class Model:
    """One loaded bundle. Thread-safe, as nothing changes after loading."""

    model_id: str
    forest: Forest
    anomaly: AnomalyModel
    knots_x: Floats
    knots_y: Floats
    thresholds: Thresholds
    adjustment: Adjustment | None = None
    number: int | None = None
    """The number of its bundle's signature, None if it has none."""

    def inputs(self, vectors: Matrix) -> Matrix:
        """Return the inputs float32[n, 71]: `vectors` float32[n, 70] plus the anomaly score."""
        rows = np.empty((len(vectors), COLUMNS), np.float32)
        rows[:, :VECTOR_SIZE] = vectors
        self.renew(rows)
        return rows

    def renew(self, inputs: Matrix) -> None:
        """Turn another model's inputs into this one's, in place: only the anomaly score differs."""
        inputs[:, VECTOR_SIZE] = anomaly_scores(self.anomaly, inputs)

    def probability(self, inputs: Matrix) -> Matrix:
        """Return the uncalibrated probability, float32[n]."""
        probability = probabilities(self.forest, inputs)
        if self.adjustment is None:
            return probability
        return self.adjustment.adjusted(inputs, probability)

    def score(self, inputs: Matrix) -> Floats:
        """Return the calibrated probability of fraud, float64[n]."""
        scores: Floats = np.interp(self.probability(inputs), self.knots_x, self.knots_y)
        return scores

    def contributions(self, inputs: Matrix) -> Floats:
        """Return the contribution of each of the 71 columns to the log-odds, float64[n, 71]."""
        added = contributions(self.forest, inputs)
        if self.adjustment is None:
            return added
        return self.adjustment.contributions(inputs, probabilities(self.forest, inputs), added)


def load_model(directory: Path, sha256: str, trust: BundleTrust = ANYBODY) -> Model:
    """Load, verify and warm up a bundle. Blocks.

    Args:
        sha256: the hash of the bundle's manifest, as the registry names it.
        trust: whether the manifest must be signed.

    Raises:
        ConfigurationError: a hash, the signature, the catalogue or the content is wrong. The text
            names the file and the reason. Nothing else is raised.
    """
    with _refusing(directory):
        manifest, files = read_verified(directory, sha256, trust)
        if manifest.fingerprint != FINGERPRINT:
            raise ConfigurationError(
                f"{manifest.model_id} was trained on the catalogue {manifest.fingerprint.hex()}, "
                f"but this scorer has {FINGERPRINT.hex()}: train the model again"
            )
        missing = {FOREST, ANOMALY, CALIBRATION, THRESHOLDS} - files.keys()
        if missing:
            raise ConfigurationError(f"{directory} lacks {', '.join(sorted(missing))}")
        model = _assemble(directory, manifest.model_id, manifest.number, files)
        _warm_up(model)
    return model


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong into a refusal of `path`.

    Parsers raise a dozen kinds of errors for bytes that somebody made up, RecursionError and
    MemoryError among them, and a refused model must not end the thread that loads it.
    """
    try:
        yield
    except FraudError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"{path} cannot be served: {type(error).__name__}: {error}"
        ) from error


def _assemble(directory: Path, model_id: str, number: int | None, files: dict[str, bytes]) -> Model:
    with _refusing(directory / FOREST):
        forest = forest_from_arrays(read_arrays(files[FOREST]), COLUMNS)
    with _refusing(directory / ANOMALY):
        anomaly = anomaly_from_arrays(read_arrays(files[ANOMALY]))
    with _refusing(directory / CALIBRATION):
        knots_x, knots_y = _calibration(files[CALIBRATION])
    with _refusing(directory / THRESHOLDS):
        thresholds = _thresholds(files[THRESHOLDS])
    change = None
    if adjustment.FILE in files:
        with _refusing(directory / adjustment.FILE):
            change = adjustment.parse(files[adjustment.FILE])
    return Model(model_id, forest, anomaly, knots_x, knots_y, thresholds, change, number)


def _calibration(data: bytes) -> tuple[Floats, Floats]:
    knots: dict[str, list[float]] = json.loads(data)
    knots_x, knots_y = np.array(knots["x"], np.float64), np.array(knots["y"], np.float64)
    if not (
        knots_x.ndim == knots_y.ndim == 1
        and len(knots_x) == len(knots_y) > 0
        and np.isfinite(knots_x).all()
        and (np.diff(knots_x) >= 0).all()
        and (np.diff(knots_y) >= 0).all()
        and 0 <= knots_y[0] <= knots_y[-1] <= 1
    ):
        raise ValueError("the calibration does not increase within [0, 1]")
    return knots_x, knots_y


def _thresholds(data: bytes) -> Thresholds:
    limits: dict[str, float] = json.loads(data)
    thresholds = Thresholds(float(limits["block"]), float(limits["review"]))
    if not 0.0 <= thresholds.review <= thresholds.block <= 1.0:
        raise ValueError(
            f"review {thresholds.review} and block {thresholds.block} are not in ascending order"
        )
    return thresholds


def _warm_up(model: Model) -> None:
    """Touch everything that would delay the first answer, and time one row.

    Raises:
        ConfigurationError: one row takes longer than MAX_ROW_S.
        ValueError: a score or a contribution is not a number.
    """
    rows = np.zeros((3, VECTOR_SIZE), np.float32)
    rows[::2] = np.nan
    inputs = model.inputs(rows)
    if not (np.isfinite(model.score(inputs)).all() and np.isfinite(inputs[:, -1]).all()):
        raise ValueError("it scores a transaction with something that is not a number")
    if not np.isfinite(model.contributions(inputs)).all():
        raise ValueError("it explains a score by something that is not a number")
    fastest = np.inf
    for _ in range(WARM_UP_RUNS):
        took = _seconds(model, rows[:1])
        fastest = min(fastest, took)
        if took > HOPELESS * MAX_ROW_S:
            break
    if fastest > MAX_ROW_S:
        raise ConfigurationError(
            f"{model.model_id} takes {fastest * 1e3:.1f} ms per transaction, at most "
            f"{MAX_ROW_S * 1e3:g} ms are allowed: train fewer trees"
        )


def _seconds(model: Model, row: Matrix) -> float:
    began = time.perf_counter()
    model.score(model.inputs(row))
    return time.perf_counter() - began
