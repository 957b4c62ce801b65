"""Messages of the topics that the monitor follows, and a bundle with reference histograms only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from schemas.codec import avro
from schemas.features import ANOMALY_FEATURE, FINGERPRINT, HOUR, NAMES, VECTOR_SIZE
from schemas.manifest import write_manifest
from schemas.records import ModelEvent, Stage
from trainer.evaluation.evaluate import histogram

START = 1_700_000_000_000 // HOUR * HOUR


def bundle(directory: Path, model_id: str, seed: int = 1) -> str:
    """Write histograms of `vectors` and healthy scores; return the manifest's SHA-256."""
    import json

    directory.mkdir()
    draw = np.random.default_rng(seed)
    matrix = vectors(draw, 5_000)
    histograms = {name: histogram(matrix[:, place]) for place, name in enumerate(NAMES)}
    histograms |= {
        "score": histogram(scores(draw, 5_000)),
        ANOMALY_FEATURE: histogram(draw.random(5_000)),
    }
    (directory / "histograms.json").write_text(json.dumps(histograms))
    return write_manifest(directory, model_id, FINGERPRINT)


def vectors(draw: np.random.Generator, count: int) -> np.ndarray:
    """Return float32[count, 70]."""
    return draw.normal(size=(count, VECTOR_SIZE)).astype("<f4")


def scores(draw: np.random.Generator, count: int) -> np.ndarray:
    """Return scores of a healthy model: 2 % are alerts."""
    fraud = draw.random(count) < 0.03
    return np.where(fraud, draw.beta(6, 0.5, count), draw.beta(0.3, 20, count))


def model_event(
    directory: Path, sha256: str, stage: Stage, at: int, share: float | None = None
) -> bytes:
    event: ModelEvent = {
        "model_id": directory.name, "stage": stage, "canary_share": share,
        "artefact_uri": directory.as_uri(), "sha256": sha256, "fingerprint": FINGERPRINT,
        "metrics": {}, "occurred_at": at, "actor": "test", "comment": None,
    }  # fmt: skip
    return avro.encode("ModelEvent", event)


def vector_message(number: int, values: np.ndarray, at: int) -> bytes:
    return avro.encode(
        "FeatureVector",
        {
            "source_partition": 0, "source_offset": number, "received_at": at,
            "computed_at": at * 1000 + 2_000, "duplicate": False, "late": False,
            "fingerprint": FINGERPRINT, "vector": values.astype("<f4").tobytes(),
            "transaction": {
                "transaction_id": f"t{number}", "event_time": at, "card_id": f"c{number}",
                "merchant_id": "m", "amount": 1_000, "currency": "EUR", "channel": "ECOM",
                "attributes": {},
            },
        },
    )  # fmt: skip


def decision_message(number: int, score: float, at: int, model_id: str, **changes: Any) -> bytes:
    record = {
        "source_partition": 0, "source_offset": number, "transaction_id": f"t{number}",
        "card_id": f"c{number}", "merchant_id": "m", "event_time": at, "amount": 1_000,
        "currency": "EUR",
        "decision": "BLOCK" if score > 0.95 else "REVIEW" if score > 0.75 else "APPROVE",
        "score": float(score), "anomaly_score": number * 0.618 % 1.0, "model_id": model_id,
        "model_role": "CHAMPION", "policy_version": "1", "duplicate": False, "late": False,
        "degraded": None, "received_at": at, "computed_at": at * 1000 + 2_000,
        "decided_at": at * 1000 + 3_000,
    }  # fmt: skip
    return avro.encode("Decision", record | changes)


def label_message(number: int, fraud: bool, at: int) -> bytes:
    return avro.encode(
        "Label",
        {
            "transaction_id": f"t{number}", "card_id": f"c{number}",
            "label": "FRAUD" if fraud else "GENUINE", "source": "ANALYST",
            "transaction_time": at, "label_time": at + 60_000,
        },
    )  # fmt: skip
