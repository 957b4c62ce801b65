"""Vectors, and a small model that blocks large amounts, for tests of the scorer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xgboost

from schemas.codec import avro
from schemas.features import FINGERPRINT, VECTOR_SIZE
from scorer.model.bundle import COLUMNS, Model, load_model
from trainer.training import bundle_writer, isolation_forest
from trainer.training.batch_training import Trained

SMALL, LARGE = 10.0, 1_000.0
"""Amounts that the model of `small_bundle` approves and blocks."""
DRIVERS = ("amount", "card_tx_count_24h")


def vector(position: tuple[int, int], *, amount: float = SMALL, **fields: Any) -> bytes:
    """Return a FeatureVector message; `fields` override the transaction's and the vector's."""
    partition, offset = position
    values = np.full(VECTOR_SIZE, 1.0, "<f4")
    values[0], values[12] = amount, fields.pop("count_24h", 1.0)
    record = {
        "source_partition": partition,
        "source_offset": offset,
        "received_at": 1_700_000_000_000,
        "computed_at": 1_700_000_000_000_000,
        "duplicate": False,
        "late": False,
        "fingerprint": fields.pop("fingerprint", FINGERPRINT),
        "vector": values.tobytes(),
        "transaction": {
            "transaction_id": f"{partition}-{offset}",
            "event_time": 1_700_000_000_000,
            "card_id": f"card-{offset % 50}",
            "merchant_id": "merchant-1",
            "amount": round(amount * 100),
            "currency": "EUR",
            "attributes": {},
            **fields,
        },
    }
    return avro.encode("FeatureVector", record)


def small_bundle(
    directory: Path,
    model_id: str,
    *,
    seed: int = 1,
    edge: float = 500.0,
    histograms: dict[str, Any] | None = None,
) -> str:
    """Write a bundle whose model blocks amounts above `edge`; return its manifest's SHA-256."""
    draw = np.random.default_rng(seed)
    matrix = draw.normal(1.0, 0.3, (4_000, COLUMNS)).astype(np.float32)
    matrix[:, 0] = draw.uniform(0.0, 1_500.0, 4_000)
    matrix[:, 12] = draw.integers(1, 30, 4_000)
    matrix[draw.random(matrix.shape) < 0.05] = np.nan
    fraud = np.nan_to_num(matrix[:, 0]) > edge
    booster = xgboost.train(
        {"objective": "binary:logistic", "max_depth": 4, "eta": 0.3, "nthread": 1, "seed": seed},
        xgboost.DMatrix(matrix, fraud),
        40,
    )
    trained = Trained(
        booster=booster,
        anomaly=isolation_forest.train(matrix[:, :VECTOR_SIZE], seed=seed, trees=20),
        knots_x=np.array([0.0, 1.0]),
        knots_y=np.array([0.0, 1.0]),
        thresholds={"block": 0.95, "review": 0.75},
        histograms=histograms or {},
        metrics={"auc": 1.0},
    )
    return bundle_writer.write(directory, model_id, trained)


def small_model(directory: Path, model_id: str, **options: Any) -> Model:
    """Write and load a bundle."""
    return load_model(directory, small_bundle(directory, model_id, **options))
