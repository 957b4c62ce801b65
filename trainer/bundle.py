"""Bundle: a directory with model, forest arrays, calibration, anomaly arrays and a manifest.

No pickle anywhere. The forest's arrays stand beside XGBoost's own file, so that the scorer need not
parse JSON while it serves. Written by `python -m trainer bootstrap`, read by `scorer.model`.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np

from schemas import manifest
from schemas.errors import ConfigurationError
from schemas.features import FINGERPRINT
from scorer import model as served
from scorer.forest import forest_from_json
from trainer.batch import Trained


def write(directory: Path, model_id: str, trained: Trained) -> str:
    """Write the bundle and return the hex SHA-256 of its manifest.

    The directory appears whole or not at all.

    Raises:
        ConfigurationError: the directory exists already or cannot be written.
    """
    if directory.exists():
        raise ConfigurationError(f"{directory} exists: give another --output or --model-id")
    partial = directory.with_name(f".{directory.name}.{os.getpid()}.partial")
    forest = forest_from_json(bytes(trained.booster.save_raw("json")), served.COLUMNS)
    knots = {"x": trained.knots_x.tolist(), "y": trained.knots_y.tolist()}
    texts = {
        served.CALIBRATION: knots,
        served.THRESHOLDS: trained.thresholds,
        served.HISTOGRAMS: trained.histograms,
        "metrics.json": trained.metrics,
    }
    try:
        partial.mkdir(parents=True)
        trained.booster.save_model(partial / served.BOOSTER)
        np.savez(partial / served.FOREST, **forest._asdict())
        np.savez(partial / served.ANOMALY, **trained.anomaly._asdict())
        for name, content in texts.items():
            (partial / name).write_text(json.dumps(content))
        sha256 = manifest.write_manifest(partial, model_id, FINGERPRINT)
        partial.rename(directory)
    except OSError as error:
        raise ConfigurationError(f"cannot write bundle {directory}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return sha256
