"""The topics `models` and `policy`, followed: what serves, what is refused, and what it shows."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.clock import ManualClock
from runtime.kafka.memory import MemoryBroker, MemoryReader
from runtime.kafka.protocols import Message
from runtime.metrics import Metrics, read_exposition
from schemas.codec import avro
from schemas.errors import BrokerUnavailable, ConfigurationError
from schemas.features import FINGERPRINT
from schemas.manifest import ANYBODY, MANIFEST_NAME, BundleTrust, sha256, write_manifest
from schemas.records import Alert
from scorer.serving import ServingFollower, bundle_directory
from tests.support.scorer.stand_ins import small_bundle
from tests.support.trainer.signed import SigningKey
from tests.support.waiting import PATIENCE_S, until
from tests.unit.scorer.test_policy_event import event


class Away(MemoryReader):
    """A reader that never gets an answer once it has read to the end."""

    def __init__(self, broker: MemoryBroker, topic: str) -> None:
        super().__init__(broker, topic)
        self.asked = threading.Event()

    def poll_batch(self, max_records: int = 500, timeout_s: float = 1.0) -> list[Message]:
        self.asked.set()
        raise BrokerUnavailable("models is away")


class Bench:
    """A follower of two topics in memory."""

    def __init__(self) -> None:
        self.broker = MemoryBroker(1)
        self.models = MemoryReader(self.broker, "models")
        self.metrics = Metrics("scorer")
        self.alerts: list[Alert] = []
        self.trust = ANYBODY
        self.follower: ServingFollower | None = None

    def start(self) -> ServingFollower:
        self.follower = ServingFollower(
            self.models,
            MemoryReader(self.broker, "policy"),
            alert=self.alerts.append,
            metrics=self.metrics,
            clock=ManualClock(1_700_000_001_000),
            trust=self.trust,
        )
        self.follower.start()
        return self.follower

    def publish(
        self,
        bundle: Path,
        stage: str,
        share: float | None = None,
        *,
        name: str | None = None,
        uri: str | None = None,
    ) -> None:
        """Publish an event of the bundle, of the model of its folder unless `name` says another."""
        model_id = name or bundle.name
        record: dict[str, Any] = {
            "model_id": model_id,
            "stage": stage,
            "canary_share": share,
            "artefact_uri": uri or bundle.as_uri(),
            "sha256": sha256((bundle / MANIFEST_NAME).read_bytes()),
            "fingerprint": FINGERPRINT,
            "metrics": {},
            "occurred_at": 1_700_000_000_000,
            "actor": "jane",
            "comment": None,
        }
        value = avro.encode("ModelEvent", record)
        self.broker.append("models", (0, model_id.encode(), value))

    def publish_policy(self, version: str) -> None:
        document = json.dumps({"version": version})
        self.broker.append("policy", (0, b"default", event(version, document)))

    def shown(self) -> set[tuple[str, str]]:
        """Return which models the metrics say that serve, and in which role."""
        samples = read_exposition(self.metrics.exposition().decode())
        return {
            (labels["model_id"], labels["role"])
            for name, labels, _ in samples
            if name == "fraud_model_info"
        }

    def refused(self) -> list[tuple[str, str, Any]]:
        return [(each["rule"], each["severity"], each["detail"]["name"]) for each in self.alerts]


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    if made.follower is not None:
        made.follower.stop()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, of which the tests make copies under other names."""
    directory = tmp_path_factory.mktemp("bundles") / "trained"
    small_bundle(directory, "trained")
    return directory


def copied(trained: Path, directory: Path, **thresholds: float) -> Path:
    """Return a bundle of the model that is called as its folder."""
    shutil.copytree(trained, directory, dirs_exist_ok=True)
    if thresholds:
        (directory / "thresholds.json").write_text(json.dumps(thresholds))
    write_manifest(directory, directory.name, FINGERPRINT)
    return directory


def test_a_policy_is_in_force_while_models_cannot_be_read(bench: Bench) -> None:
    models = bench.models = Away(bench.broker, "models")
    follower = bench.start()
    assert models.asked.wait(PATIENCE_S)
    bench.publish_policy("7")
    until(lambda: follower.serving.policy.version == "7", "the policy was read and lost")
    assert follower.dead() == ""


def test_with_a_key_an_unsigned_bundle_does_not_serve_until_it_is_signed(
    bench: Bench, trained: Path, tmp_path: Path
) -> None:
    key = SigningKey()
    bench.trust = BundleTrust(public_key=key.public)
    bundle = copied(trained, tmp_path / "m")
    bench.publish(bundle, "CHAMPION")
    follower = bench.start()
    assert follower.serving.champion is None
    assert bench.refused() == [("bundle_refused", "CRITICAL", "m")]
    assert "not signed" in str(bench.alerts[0]["detail"]["reason"])

    key.sign(bundle, number=1)
    bench.publish(bundle, "CHAMPION")
    until(lambda: follower.serving.champion is not None, "the signed bundle serves")
    assert len(bench.alerts) == 1


def test_an_older_signature_of_a_model_is_refused_once_a_newer_one_has_served(
    bench: Bench, trained: Path, tmp_path: Path
) -> None:
    key = SigningKey()
    bench.trust = BundleTrust(public_key=key.public)
    bundle = copied(trained, tmp_path / "m", block=0.9, review=0.5)
    key.sign(bundle, number=7)
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    key.sign(copied(trained, bundle, block=0.8, review=0.5), number=8)
    bench.publish(bundle, "CHAMPION")
    follower = bench.start()
    for name, content in before.items():  # somebody puts the former bundle back, signature and all
        (bundle / name).write_bytes(content)
    bench.publish(bundle, "CHAMPION")
    until(lambda: bool(bench.alerts), "the older signature was refused")
    assert "signed with the number 7" in str(bench.alerts[0]["detail"]["reason"])
    assert follower.dead() == ""


@pytest.mark.parametrize("uri", ["file://[", "file:///tmp/%00", "file://elsewhere/models/m"])
def test_an_address_that_is_none_is_refused_and_does_not_end_the_follower(
    bench: Bench, trained: Path, tmp_path: Path, uri: str
) -> None:
    bench.publish(copied(trained, tmp_path / "right"), "CHAMPION")
    bench.publish(copied(trained, tmp_path / "wrong"), "CHAMPION", uri=uri)
    follower = bench.start()
    assert follower.serving.champion is not None
    assert follower.serving.champion.model_id == "right"
    assert bench.refused() == [("bundle_refused", "CRITICAL", "wrong")]
    assert follower.dead() == ""


def test_a_bundle_of_another_model_is_refused_and_what_served_goes_on(
    bench: Bench, trained: Path, tmp_path: Path
) -> None:
    bench.publish(copied(trained, tmp_path / "right"), "CHAMPION")
    bench.publish(copied(trained, tmp_path / "other"), "CHAMPION", name="wrong")
    follower = bench.start()
    assert follower.serving.champion is not None
    assert follower.serving.champion.model_id == "right"
    assert bench.refused() == [("bundle_refused", "CRITICAL", "wrong")]
    assert "the bundle of wrong holds other" in str(bench.alerts[0]["detail"]["reason"])


def test_a_refused_shadow_leaves_the_others_in_their_places(
    bench: Bench, trained: Path, tmp_path: Path
) -> None:
    bench.publish(copied(trained, tmp_path / "champion"), "CHAMPION")
    broken = copied(trained, tmp_path / "broken")
    (broken / "forest.npz").write_bytes(b"no archive")
    bench.publish(broken, "SHADOW")
    bench.publish(copied(trained, tmp_path / "watching"), "SHADOW")
    follower = bench.start()
    assert bench.shown() == {("champion", "CHAMPION"), ("watching", "SHADOW")}
    assert [each.model_id for each in follower.serving.shadows] == ["watching"]
    assert bench.refused() == [("bundle_refused", "CRITICAL", "broken")]


def test_a_bundle_written_anew_is_loaded_also_if_its_model_was_away_for_one_poll_only(
    bench: Bench, trained: Path, tmp_path: Path
) -> None:
    def block() -> float:
        champion = follower.serving.champion
        return -1.0 if champion is None else champion.thresholds.block

    bench.publish(copied(trained, tmp_path / "m", block=0.9, review=0.5), "CHAMPION")
    follower = bench.start()
    assert block() == 0.9
    anew = copied(trained, tmp_path / "m", block=0.8, review=0.5)
    with bench.broker.arrived:  # the follower reads both at once
        bench.publish(anew, "RETIRED")
        bench.publish(anew, "CHAMPION")
    until(lambda: block() == 0.8, "the bundle as it is now")
    assert bench.alerts == []


def test_models_and_policy_change_each_without_the_other(
    bench: Bench, trained: Path, tmp_path: Path
) -> None:
    bench.publish_policy("7")
    bench.publish(copied(trained, tmp_path / "champion"), "CHAMPION")
    bench.publish(copied(trained, tmp_path / "canary"), "CANARY", 0.25)
    follower = bench.start()

    def state() -> tuple[str, str | None, list[tuple[str, float]], list[str]]:
        now = follower.serving
        return (
            now.policy.version,
            now.champion.model_id if now.champion else None,
            [(each.model.model_id, each.share) for each in now.canaries],
            [each.model_id for each in now.shadows],
        )

    assert state() == ("7", "champion", [("canary", 0.25)], [])
    bench.publish_policy("8")
    until(lambda: state()[0] == "8", "the new policy")
    assert state() == ("8", "champion", [("canary", 0.25)], [])
    bench.publish(copied(trained, tmp_path / "shadow"), "SHADOW")
    until(lambda: state()[3] == ["shadow"], "the new model")
    assert state() == ("8", "champion", [("canary", 0.25)], ["shadow"])
    roles = {("champion", "CHAMPION"), ("canary", "CANARY"), ("shadow", "SHADOW")}
    until(lambda: bench.shown() == roles, "every model is shown")
    bench.publish(tmp_path / "canary", "ROLLED_BACK")
    until(lambda: state()[2] == [], "the canary is gone")
    until(lambda: bench.shown() == roles - {("canary", "CANARY")}, "and shown no more")


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///models/fraud%20model%C3%A9", "/models/fraud modelé"),
        ("file:///models/m", "/models/m"),
        ("/models/m", "/models/m"),
    ],
)
def test_a_bundle_lies_where_its_uri_says(uri: str, path: str) -> None:
    assert bundle_directory(uri) == Path(path)


def test_a_bundle_elsewhere_than_on_a_disk_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="s3://bucket/m"):
        bundle_directory("s3://bucket/m")
