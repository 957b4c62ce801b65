"""A verified model bundle in memory: vectors in, calibrated scores out. Its only I/O is loading.

Bundles are loaded on a background thread while the scorer answers. They hold plain arrays, which
load within milliseconds, so that loading does not delay answers.
"""

from __future__ import annotations

import io
import json
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from schemas.errors import ConfigurationError
from schemas.features import FINGERPRINT, VECTOR_SIZE
from schemas.manifest import MANIFEST_NAME, read_verified
from scorer.model import adjustment
from scorer.model.adjustment import Adjustment
from scorer.model.anomaly import AnomalyModel, anomaly_from_arrays, anomaly_scores
from scorer.model.forest import Forest, contributions, forest_from_arrays, probabilities

COLUMNS: Final = VECTOR_SIZE + 1
"""Number of inputs: the catalogue's features and the anomaly score."""
BOOSTER, FOREST, ANOMALY, CALIBRATION, THRESHOLDS, HISTOGRAMS = (
    "model.ubj", "forest.npz", "anomaly.npz", "calibration.json", "thresholds.json",
    "histograms.json",
)  # fmt: skip
SIGNATURE: Final = "manifest.sig"
MAX_ROW_S: Final = 0.003
"""A model that needs longer for one transaction is refused."""
WARM_UP_RUNS: Final = 20
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


def load_model(directory: Path, sha256: str, public_key: bytes | None = None) -> Model:
    """Load, verify and warm up a bundle. Blocks.

    Args:
        sha256: the hash of the bundle's manifest, as the registry names it.
        public_key: 32 bytes (Ed25519); if given, the manifest must be signed with it.

    Raises:
        ConfigurationError: a hash, the signature, the catalogue or the content is wrong.
    """
    manifest, files = read_verified(directory, sha256)
    if public_key is not None:
        _check_signature(directory, public_key)
    if manifest.fingerprint != FINGERPRINT:
        raise ConfigurationError(
            f"{manifest.model_id} was trained on the catalogue {manifest.fingerprint.hex()}, but "
            f"this scorer has {FINGERPRINT.hex()}: train the model again"
        )
    missing = {FOREST, ANOMALY, CALIBRATION, THRESHOLDS} - files.keys()
    if missing:
        raise ConfigurationError(f"{directory} lacks {', '.join(sorted(missing))}")
    try:
        model = _assemble(manifest.model_id, files)
    except (
        LookupError,
        ValueError,
        TypeError,
        OSError,
        EOFError,
        OverflowError,
        zipfile.BadZipFile,
    ) as error:
        raise ConfigurationError(f"bundle {directory} cannot be served: {error}") from error
    _warm_up(model)
    return model


def _assemble(model_id: str, files: dict[str, bytes]) -> Model:
    forest = forest_from_arrays(_arrays(files[FOREST]), COLUMNS)
    anomaly = anomaly_from_arrays(_arrays(files[ANOMALY]))
    knots: dict[str, list[float]] = json.loads(files[CALIBRATION])
    knots_x, knots_y = np.array(knots["x"], np.float64), np.array(knots["y"], np.float64)
    if not (
        len(knots_x) == len(knots_y) > 0
        and (np.diff(knots_x) >= 0).all()
        and (np.diff(knots_y) >= 0).all()
        and 0 <= knots_y[0] <= knots_y[-1] <= 1
    ):
        raise ValueError("the calibration does not increase within [0, 1]")
    limits: dict[str, float] = json.loads(files[THRESHOLDS])
    thresholds = Thresholds(float(limits["block"]), float(limits["review"]))
    if not 0.0 <= thresholds.review <= thresholds.block <= 1.0:
        raise ValueError(
            f"review {thresholds.review} and block {thresholds.block} are not in ascending order"
        )
    change = adjustment.parse(files[adjustment.FILE]) if adjustment.FILE in files else None
    return Model(model_id, forest, anomaly, knots_x, knots_y, thresholds, change)


def _arrays(data: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _check_signature(directory: Path, public_key: bytes) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        signature = (directory / SIGNATURE).read_bytes()
        signed = (directory / MANIFEST_NAME).read_bytes()
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, signed)
    except (OSError, ValueError, InvalidSignature) as error:
        raise ConfigurationError(
            f"{directory}: the manifest is not signed by the key of FRAUD_BUNDLE_PUBLIC_KEY "
            f"({type(error).__name__}): sign it, or unset the key"
        ) from error


def _warm_up(model: Model) -> None:
    """Touch everything that would delay the first answer, and time one row.

    Raises:
        ConfigurationError: one row takes longer than MAX_ROW_S.
    """
    rows = np.zeros((3, VECTOR_SIZE), np.float32)
    rows[::2] = np.nan
    model.contributions(model.inputs(rows))
    fastest = min(_seconds(model, rows[:1]) for _ in range(WARM_UP_RUNS))
    if fastest > MAX_ROW_S:
        raise ConfigurationError(
            f"{model.model_id} takes {fastest * 1e3:.1f} ms per transaction, at most "
            f"{MAX_ROW_S * 1e3:g} ms are allowed: train fewer trees"
        )


def _seconds(model: Model, row: Matrix) -> float:
    began = time.perf_counter()
    model.score(model.inputs(row))
    return time.perf_counter() - began
