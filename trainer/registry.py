"""Registry events of a bundle, as records for the `models` topic. Pure."""

from __future__ import annotations

from pathlib import Path

from schemas.features import FINGERPRINT
from schemas.records import ModelEvent, Stage


def model_event(
    model_id: str,
    stage: Stage,
    bundle: Path,
    sha256: str,
    metrics: dict[str, float],
    *,
    occurred_at: int,
    actor: str = "trainer",
) -> ModelEvent:
    """Return the event that puts `bundle` at `stage`; `sha256` is that of its manifest."""
    return {
        "model_id": model_id,
        "stage": stage,
        "canary_share": None,
        "artefact_uri": bundle.resolve().as_uri(),
        "sha256": sha256,
        "fingerprint": FINGERPRINT,
        "metrics": metrics,
        "occurred_at": occurred_at,
        "actor": actor,
        "comment": None,
    }
