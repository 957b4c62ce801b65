"""Trains a model on the world's history and publishes it to the services under load.

Training runs in a process of its own; only its command line and the registry are known here.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from loadtest.world.history import MAPPING, write_history
from loadtest.world.world import World
from runtime.kafka.model_registry import ModelRegistry, open_registry, registration
from runtime.settings import Settings
from schemas.errors import ConfigurationError, FatalError
from schemas.features import FINGERPRINT
from schemas.manifest import FORMAT, MANIFEST_NAME
from schemas.model_stages import STEPS
from schemas.records import Stage

HISTORY_DAYS: Final = 45
HISTORY_CUSTOMERS: Final = 3_000
TRAIN_S: Final = 600.0
ACTOR: Final = "loadtest"


def publish(settings: Settings, directory: Path, stage: Stage = "CHAMPION") -> str:
    """Put a bundle at a stage in the registry and return its model_id; see `put`."""
    with open_registry(settings) as registry:
        return put(registry, directory, stage)


def put(registry: ModelRegistry, directory: Path, stage: Stage = "CHAMPION") -> str:
    """Put a bundle at a stage, registering it first if necessary, and return its model_id.

    Raises:
        ConfigurationError: `directory` does not hold a bundle, another bundle of that name is in
            use, or the model cannot move to that stage from its present one.
    """
    event = registration(directory, actor=ACTOR)
    model_id = event["model_id"]
    states = registry.states()
    state = states.get(model_id)
    if "REGISTERED" in STEPS[states.stage(model_id)]:
        registry.register(event)
    elif state is not None and state.event["sha256"] != event["sha256"]:
        raise ConfigurationError(
            f"{model_id} is {state.stage} with another bundle, {state.event['artefact_uri']}: "
            "give the model another name, or use another --prefix"
        )
    if states.stage(model_id) != stage:
        registry.change(model_id, stage, actor=ACTOR)
    return model_id


def bootstrap_command(
    history: Path, output: Path, model_id: str, *, rounds: int | None = None
) -> list[str]:
    """Return the trainer's command line for a history that `write_history` wrote."""
    command = [
        sys.executable, "-m", "trainer", "bootstrap", "--input", str(history),
        "--mapping", str(MAPPING), "--output", str(output), "--model-id", model_id,
    ]  # fmt: skip
    return command if rounds is None else [*command, "--rounds", str(rounds)]


def prepare_model(data: Path, seed: int) -> Path:
    """Return a bundle trained on the world of `seed`; the first call trains it, in about a minute.

    Raises:
        FatalError: the trainer failed; the text ends with its output.
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
    """Run the trainer and wait for it; raises FatalError if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=TRAIN_S)
    if done.returncode != 0:
        raise FatalError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
