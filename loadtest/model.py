"""A model for the services under load: trained from the world's history, put on `models`.

The trainer is another process: loadtest knows only its command line and the registry event.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from loadtest.history import MAPPING, write_history
from loadtest.world import World
from schemas import codec
from schemas.errors import ConfigurationError, FatalError
from schemas.features import FINGERPRINT
from schemas.manifest import FORMAT, MANIFEST_NAME, sha256
from schemas.records import ModelEvent, Stage
from schemas.runtime.kafka import KafkaProducer
from schemas.runtime.settings import Settings
from schemas.topics import MODELS

HISTORY_DAYS: Final = 45
HISTORY_CUSTOMERS: Final = 3_000
TRAIN_S: Final = 600.0


def registry_event(directory: Path, stage: Stage, *, occurred_at: int) -> ModelEvent:
    """Return the event that puts a bundle at `stage`; `occurred_at` in ms.

    Raises:
        ConfigurationError: the directory holds no readable manifest.
    """
    path = directory / MANIFEST_NAME
    try:
        data = path.read_bytes()
        document = json.loads(data)
        model_id, fingerprint = str(document["model_id"]), bytes.fromhex(document["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{directory} is not a model bundle ({error}): train one with "
            "`python -m trainer bootstrap`"
        ) from error
    return {
        "model_id": model_id,
        "stage": stage,
        "canary_share": None,
        "artefact_uri": directory.resolve().as_uri(),
        "sha256": sha256(data),
        "fingerprint": fingerprint,
        "metrics": {},
        "occurred_at": occurred_at,
        "actor": "loadtest",
        "comment": None,
    }


def publish(settings: Settings, directory: Path, stage: Stage = "CHAMPION") -> str:
    """Put a bundle on the models topic, wait until Kafka has it, and return its model_id."""
    event = registry_event(directory, stage, occurred_at=time.time_ns() // 1_000_000)
    producer = KafkaProducer(settings)
    try:
        value = codec.encode("ModelEvent", event)
        producer.produce(settings.topic(MODELS), event["model_id"].encode(), value)
        producer.flush(30.0)
    finally:
        producer.close()
    return event["model_id"]


def bootstrap_command(history: Path, output: Path, model_id: str) -> list[str]:
    """Return the trainer's command line for a history that `write_history` wrote."""
    return [
        sys.executable, "-m", "trainer", "bootstrap", "--input", str(history),
        "--mapping", str(MAPPING), "--output", str(output), "--model-id", model_id,
    ]  # fmt: skip


def prepared(data: Path, seed: int) -> Path:
    """Return the bundle for a world's seed, trained the first time it is asked for (a minute).

    Raises:
        FatalError: the trainer failed; the text ends with what it said.
    """
    name = f"world-{HISTORY_CUSTOMERS}-{seed}-{HISTORY_DAYS}d-{FINGERPRINT.hex()}-{FORMAT}"
    models = data / "models"
    if (models / name / MANIFEST_NAME).exists():
        return models / name
    history = data / f"{name}.parquet"
    first_day = 20_148 - HISTORY_DAYS
    write_history(World(HISTORY_CUSTOMERS, seed), first_day, HISTORY_DAYS, history)
    run_trainer(bootstrap_command(history, models, name))
    history.unlink(missing_ok=True)
    return models / name


def run_trainer(command: Sequence[str]) -> None:
    """Run the trainer to its end; raises FatalError when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=TRAIN_S)
    if done.returncode != 0:
        raise FatalError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
