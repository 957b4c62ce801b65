"""What the registry of models writes, without a broker: steps, and registrations of bundles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.clock import ManualClock
from runtime.kafka.memory import MemoryBroker, MemoryExclusiveLog
from runtime.kafka.model_registry import ModelRegistry, registration
from runtime.kafka.protocols import Decide
from schemas.errors import ConfigurationError
from schemas.manifest import MANIFEST_NAME, sha256, write_manifest
from tests.unit.schemas.test_model_stages import event

NOW = 1_700_000_000_500


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "a bundle"
    folder.mkdir()
    (folder / "model.json").write_bytes(b"{}")
    (folder / "metrics.json").write_text('{"auc": 0.93, "recall": 1}')
    write_manifest(folder, "model-7", b"12345678")
    return folder


def test_a_registration_says_all_that_the_scorer_checks(bundle: Path) -> None:
    made = registration(bundle, actor="trainer", comment="nightly", occurred_at=NOW)
    assert made == {
        "model_id": "model-7",
        "stage": "REGISTERED",
        "canary_share": None,
        "artefact_uri": (bundle.resolve()).as_uri(),
        "sha256": sha256((bundle / MANIFEST_NAME).read_bytes()),
        "fingerprint": b"12345678",
        "metrics": {"auc": 0.93, "recall": 1.0},
        "occurred_at": NOW,
        "actor": "trainer",
        "comment": "nightly",
    }
    assert "a%20bundle" in made["artefact_uri"]


def test_a_bundle_without_metrics_is_registered_without(bundle: Path) -> None:
    (bundle / "metrics.json").unlink()
    write_manifest(bundle, "model-7", b"12345678")
    assert registration(bundle, actor="trainer")["metrics"] == {}


def test_what_is_not_a_whole_bundle_is_not_registered(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not a bundle"):
        registration(tmp_path, actor="trainer")
    (bundle / "model.json").write_bytes(b"{ }")
    with pytest.raises(ConfigurationError, match=r"model\.json: SHA-256"):
        registration(bundle, actor="trainer")
    (bundle / "metrics.json").write_text(json.dumps(["auc"]))
    write_manifest(bundle, "model-7", b"12345678")
    with pytest.raises(ConfigurationError, match="does not hold metrics"):
        registration(bundle, actor="trainer")


def test_a_step_is_written_with_its_time_actor_and_comment() -> None:
    log = MemoryExclusiveLog(MemoryBroker(1), "models")
    clock = ManualClock(NOW)
    registry = ModelRegistry(log, clock)
    registry.register(event("a", "REGISTERED"))
    clock.advance(250)
    made = registry.change("a", "CANARY", actor="jane", comment="a look", share=0.25)
    assert made == event("a", "CANARY", 0.25, at=NOW + 250) | {"actor": "jane", "comment": "a look"}
    [state] = registry.states()
    assert state.event == made


def test_a_step_whose_answer_was_lost_is_not_made_twice() -> None:
    class Forgetful(MemoryExclusiveLog):
        def append(self, decide: Decide) -> None:
            super().append(decide)
            super().append(decide)

    log = Forgetful(MemoryBroker(1), "models")
    registry = ModelRegistry(log, ManualClock(NOW))
    registry.register(event("a", "REGISTERED"))
    registry.change("a", "CANARY", actor="jane", share=0.1)
    assert [message.key for message in log.read()] == [b"a", b"a"]
    registry.change("a", "CANARY", actor="jane", share=0.2)
    assert len(log.read()) == 3, "a second step of the same kind is a step of its own"
