"""Bundle: a directory with model, calibration, anomaly arrays, histograms and a manifest.

No pickle anywhere. `manifest.json` holds the SHA-256 of each file; its own SHA-256 goes into the
registry event. Written by `python -m trainer bootstrap`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np

from schemas.errors import ConfigurationError
from schemas.features import FINGERPRINT
from trainer.batch import COLUMNS, Trained

FORMAT = 1


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(directory: Path, model_id: str, trained: Trained, *, created_at: int) -> str:
    """Write the bundle and return the hex SHA-256 of its manifest; `created_at` in ms.

    The directory appears whole or not at all.

    Raises:
        ConfigurationError: the directory exists already or cannot be written.
    """
    if directory.exists():
        raise ConfigurationError(f"{directory} exists: give another --output or --model-id")
    partial = directory.with_name(f".{directory.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        trained.booster.save_model(partial / "model.ubj")
        np.savez(partial / "anomaly.npz", **trained.anomaly.arrays())
        knots = {"x": trained.knots_x.tolist(), "y": trained.knots_y.tolist()}
        (partial / "calibration.json").write_text(json.dumps(knots))
        (partial / "histograms.json").write_text(json.dumps(trained.histograms))
        manifest = {
            "format": FORMAT,
            "model_id": model_id,
            "fingerprint": FINGERPRINT.hex(),
            "columns": list(COLUMNS),
            "thresholds": trained.thresholds,
            "metrics": trained.metrics,
            "created_at": created_at,
            "files": {path.name: _digest(path) for path in sorted(partial.iterdir())},
        }
        (partial / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True))
        partial.rename(directory)
    except OSError as error:
        raise ConfigurationError(f"cannot write bundle {directory}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return _digest(directory / "manifest.json")
