"""Bundle: a directory with model, forest arrays, calibration, anomaly arrays and a manifest.

No pickle anywhere. The forest's arrays, which the scorer serves by, stand beside XGBoost's own
file; they are written only if both give the same scores. `scorer.model.bundle` reads it.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from schemas import manifest
from schemas.errors import ConfigurationError
from schemas.features import FINGERPRINT
from scorer.model import bundle as served
from scorer.model.bundle import Model, load_model
from scorer.model.forest import Forest, forest_from_json, probabilities
from trainer.registry.signing import Signer
from trainer.training.batch_training import Trained

COMPARED: Final = 500
TOLERANCE: Final = 1e-6


def write(directory: Path, model_id: str, trained: Trained, signer: Signer | None = None) -> str:
    """Write the bundle and return the hex SHA-256 of its manifest; see `draft`."""
    with draft(directory, model_id, trained, signer) as bundle:
        return bundle.finish()


@contextmanager
def draft(
    directory: Path, model_id: str, trained: Trained, signer: Signer | None = None
) -> Iterator[Draft]:
    """Write a bundle to which files are added until it is finished, and sign it if asked.

    The directory appears whole at `finish`, or not at all: whatever goes wrong before leaves
    nothing behind.

    Raises:
        ConfigurationError: the directory exists already or cannot be written (a full disk, missing
            rights), or the arrays give other scores than XGBoost.
    """
    if directory.exists():
        raise ConfigurationError(f"{directory} exists: give another --output or --model-id")
    partial = directory.with_name(f".{directory.name}.{os.getpid()}.partial")
    bundle = Draft(directory, partial, model_id, signer)
    forest = _same_forest(trained)
    knots = {"x": trained.knots_x.tolist(), "y": trained.knots_y.tolist()}
    try:
        partial.mkdir(parents=True)
        bundle.add(served.BOOSTER, bytes(trained.booster.save_raw("ubj")))
        bundle.add(served.FOREST, _npz(forest.arrays()))
        bundle.add(served.ANOMALY, _npz(trained.anomaly.arrays()))
        bundle.add(served.CALIBRATION, json.dumps(knots))
        bundle.add(served.THRESHOLDS, json.dumps(trained.thresholds))
        bundle.add(served.HISTOGRAMS, json.dumps(trained.histograms))
        bundle.add("metrics.json", json.dumps(trained.metrics))
        yield bundle
    except OSError as error:
        raise ConfigurationError(
            f"cannot write bundle {directory}: {error}; nothing of it is left: free the disk or "
            "give another --output"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class Draft:
    """A bundle that is being written."""

    def __init__(
        self, directory: Path, partial: Path, model_id: str, signer: Signer | None
    ) -> None:
        self._directory = directory
        self._partial = partial
        self._model_id = model_id
        self._signer = signer

    def add(self, name: str, content: str | bytes) -> None:
        """Write one more file, to the disk itself; raises OSError."""
        with (self._partial / name).open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())

    def served(self) -> tuple[Model, int]:
        """Return the model as a scorer would load it now, and the bytes of all files so far."""
        model = load_model(self._partial, self._write_manifest())
        return model, sum(path.stat().st_size for path in self._partial.iterdir())

    def finish(self) -> str:
        """Write the manifest, let the directory appear, and return the manifest's SHA-256."""
        if self._signer is None:
            sha256 = self._write_manifest()
        else:
            sha256 = self._signer.sign(self._partial, self._model_id, FINGERPRINT)
        self._partial.rename(self._directory)
        return sha256

    def _write_manifest(self) -> str:
        return manifest.write_manifest(self._partial, self._model_id, FINGERPRINT)


def _npz(arrays: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _same_forest(trained: Trained) -> Forest:
    """Return the booster as arrays, compared on rows that lie on its splits and beside them."""
    forest = forest_from_json(bytes(trained.booster.save_raw("json")), served.COLUMNS)
    draw = np.random.default_rng(0)
    inner = np.flatnonzero(~np.isnan(forest.trees.condition))
    rows = np.full((COMPARED, served.COLUMNS), np.nan, np.float32)
    nodes = draw.choice(inner, 100 * COMPARED if len(inner) else 0)
    value, beside = forest.trees.condition[nodes], draw.random((2, len(nodes))) < 0.5
    side = np.where(beside[0], np.float32(-np.inf), np.float32(np.inf))
    value = np.where(beside[1], value, np.nextafter(value, side))
    rows[draw.integers(COMPARED, size=len(nodes)), forest.trees.split[nodes] >> 1] = value
    expected = trained.booster.inplace_predict(rows, validate_features=False)
    worst = float(np.max(np.abs(probabilities(forest, rows) - expected)))
    if worst > TOLERANCE:
        raise ConfigurationError(
            f"the forest's arrays differ from XGBoost by {worst:g}, {TOLERANCE:g} is allowed: "
            "this XGBoost stores its trees in another way"
        )
    return forest
