"""An adjustment as a bundle: its stages by the rule, and respect for those that others moved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.clock import ManualClock
from runtime.kafka.memory import MemoryBroker, MemoryExclusiveLog
from runtime.kafka.model_registry import ModelRegistry, registration
from runtime.metrics import Metrics
from schemas.errors import ConfigurationError
from schemas.features import DAY, MINUTE, VECTOR_SIZE
from schemas.manifest import MANIFEST_NAME, sha256
from scorer.model.bundle import load_model
from scorer.serving import bundle_directory
from tests.support.scorer.stand_ins import small_bundle
from trainer.online import learning as online_learning
from trainer.online.follower import OnlineFollower
from trainer.online.learner import LearnerOptions
from trainer.online.learning import Online, OnlineOptions
from trainer.online.publish import Publisher, derive
from trainer.registry.advance import ACTOR, AdvanceRules, Lately
from trainer.registry.advancer import Advancer

DRAW = np.random.default_rng(1)


@pytest.fixture(autouse=True)
def _any_change_is_material(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online_learning, "MATERIAL", 1e-6)


class Bench:
    """A registry in memory with a champion, and a follower that has learned something."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder, self.clock = folder, ManualClock(DAY)
        self.registry = ModelRegistry(MemoryExclusiveLog(MemoryBroker(1), "models"), self.clock)
        self.champion("base")
        self.publisher = Publisher(self.registry, folder, **options)
        self.online = Online(
            OnlineOptions(
                records=10_000, label_delay_ms=1, learner=LearnerOptions(rate=1e-4, bound=10.0)
            )
        )
        self.follower = OnlineFollower(
            self.online, {}, self.publisher, clock=self.clock, metrics=Metrics("online")
        )
        self.follower.follow_champion(self.registry.states())
        self.learn()

    def champion(self, name: str, **options: Any) -> None:
        small_bundle(self.folder / name, name, **options)
        self.registry.register(registration(self.folder / name, actor="me"))
        self.registry.change(name, "CHAMPION", actor="me")

    def learn(self, rows: int = 1_000) -> None:
        """Genuine ones mature, then frauds are reported."""
        for number in range(2):
            first = self.online.counts.transactions
            keys = (np.arange(rows) + first + 1).astype(np.uint64)
            vectors = DRAW.gamma(2.0, 10.0, (rows, VECTOR_SIZE)).astype(np.float32)
            self.online.transactions(keys, vectors, np.full(rows, first + 10))
            if number:
                self.online.labels(keys[::10].tolist(), [True] * len(keys[::10]))

    def step(self, better: bool) -> dict[str, str]:
        """Evaluate under a rule that has made up its mind; return the stages."""
        self.online.rule.better = better
        self.online.rule.frauds = 10**9
        self.follower.evaluate()
        return self.stages()

    def stages(self) -> dict[str, str]:
        return {state.model_id: state.stage for state in self.registry.states()}


def test_it_watches_until_it_is_better_and_again_when_it_no_longer_is(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench.step(False) == {"base": "CHAMPION", "base+online-1": "SHADOW"}
    (event,) = bench.registry.states().at("SHADOW")
    assert event["metrics"]["frauds"] == 100
    assert event["metrics"]["auc"] > event["metrics"]["champion_auc"]
    assert bench.step(False) == bench.stages(), "the weights are the same: nothing to publish"
    assert bench.step(True) == {"base": "FORMER_CHAMPION", "base+online-1": "CHAMPION"}
    bench.clock.advance(DAY)
    bench.learn()
    assert bench.step(True) == {
        "base": "FORMER_CHAMPION", "base+online-1": "FORMER_CHAMPION", "base+online-2": "CHAMPION",
    }  # fmt: skip
    assert bench.online.base == "base", "its own adjustment is not a new champion"
    bench.follower.evaluate()
    assert bench.online.learner.learned > 0
    bench.learn()
    assert bench.step(False) == {
        "base": "CHAMPION", "base+online-1": "RETIRED", "base+online-2": "ROLLED_BACK",
        "base+online-3": "SHADOW",
    }, "the one before was not better: the base serves"  # fmt: skip


def test_what_decides_is_renewed_once_a_day_and_follows_the_one_before(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.step(True)
    for _ in range(2 * DAY // (15 * MINUTE)):
        bench.learn(100)
        bench.step(True)
        bench.clock.advance(15 * MINUTE)
    champions = [event["model_id"] for event in bench.registry.states().champions()]
    assert champions == ["base+online-2", "base+online-1", "base"]
    bench.learn()
    bench.step(True)
    line = bench.registry.states().champions()
    assert [event["model_id"] for event in line] == ["base+online-3", "base+online-2", "base"]
    assert line[0]["occurred_at"] - line[1]["occurred_at"] >= DAY, "the guard's reference"


def test_a_candidate_goes_on_beside_an_adjusted_champion(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    advancer = Advancer(
        bench.registry,
        AdvanceRules(canary_decisions=1),
        lambda canary: 1,
        lambda: Lately(1_000, {"next": 1}),
        approval=False,
        clock=bench.clock,
        metrics=Metrics("trainer"),
    )
    small_bundle(tmp_path / "next", "next", edge=900.0)
    bench.registry.register(registration(tmp_path / "next", actor=ACTOR))
    bench.registry.change("next", "SHADOW", actor=ACTOR)
    stages = []
    for _ in range(18):
        bench.learn(100)
        now = bench.step(True)
        advancer.due()
        stages.append(now["next"])
        bench.clock.advance(15 * MINUTE)
    assert stages == ["SHADOW"] * 9 + ["CANARY"] * 8 + ["CHAMPION"]
    champions = [event["model_id"] for event in bench.registry.states().champions()]
    assert champions == ["next", "base+online-1", "base"]


def test_after_a_rollback_of_the_newest_weights_the_base_serves(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.step(True)
    bench.clock.advance(DAY)
    bench.learn()
    bench.step(True)
    bench.registry.change("base+online-2", "ROLLED_BACK", actor="monitor")
    assert bench.stages()["base+online-1"] == "CHAMPION"
    stages = bench.step(True)
    assert stages["base"] == "CHAMPION"
    assert stages["base+online-1"] == "ROLLED_BACK", "all of it has to prove itself anew"


def test_as_a_canary_it_has_its_share_and_falls_back_to_a_shadow(tmp_path: Path) -> None:
    bench = Bench(tmp_path, stage="CANARY", share=0.8)
    assert bench.step(True) == {"base": "CHAMPION", "base+online-1": "CANARY"}
    bench.learn()
    assert bench.step(True) == bench.stages(), "the guard has not seen enough of it"
    assert "base+online-2" not in bench.stages()
    bench.clock.advance(DAY)
    assert bench.step(True)["base+online-2"] == "CANARY", "two of 0.8 are more than there is"
    (canary,) = bench.registry.states().at("CANARY")
    assert canary["canary_share"] == 0.8
    assert bench.step(False)["base+online-2"] == "SHADOW"


def test_it_only_watches_where_people_promote(tmp_path: Path) -> None:
    bench = Bench(tmp_path, stage="SHADOW")
    assert bench.step(True)["base+online-1"] == "SHADOW"
    bench.registry.change("base+online-1", "CHAMPION", actor="jane")
    assert bench.step(False)["base+online-1"] == "CHAMPION", "jane put it there"


def test_taken_out_by_somebody_else_it_proves_itself_anew(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.step(True)
    bench.online.window.add(np.ones(5), np.ones(5), np.ones(5, bool))
    bench.registry.change("base+online-1", "ROLLED_BACK", actor="monitor")
    stages = bench.step(True)
    assert stages == {
        "base": "CHAMPION", "base+online-1": "ROLLED_BACK", "base+online-2": "SHADOW",
    }  # fmt: skip
    assert (bench.online.window.frauds, bench.online.rule.better) == (0, False)


def test_under_a_new_champion_the_old_adjustment_stops_watching(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.step(False)
    bench.champion("next", edge=900.0)
    assert bench.step(False) == {
        "base": "FORMER_CHAMPION", "next": "CHAMPION", "base+online-1": "RETIRED",
    } | {name: stage for name, stage in bench.stages().items() if "next+" in name}  # fmt: skip
    assert bench.online.base == "next"


def test_a_derived_bundle_is_the_champion_and_its_adjustment(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    (event,) = bench.registry.states().at("CHAMPION")
    change = bench.online.learner.adjustment("base", 4, 9)
    directory = derive(event, tmp_path, change, {"online_auc": 0.9})
    loaded = load_model(directory, sha256((directory / MANIFEST_NAME).read_bytes()))
    assert loaded.model_id == "base+online-4"
    assert loaded.adjustment is not None
    assert loaded.adjustment.document() == change.document()
    vectors = DRAW.gamma(2.0, 10.0, (50, VECTOR_SIZE)).astype(np.float32)
    base = load_model(tmp_path / "base", event["sha256"])
    inputs = base.inputs(vectors)
    assert np.array_equal(
        loaded.probability(inputs), change.adjusted(inputs, base.probability(inputs))
    )
    with pytest.raises(ConfigurationError, match="exists"):
        derive(event, tmp_path, change, {})
    assert (tmp_path / "base" / "forest.npz").samefile(directory / "forest.npz")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_damaged_champion_is_not_derived_from(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    (event,) = bench.registry.states().at("CHAMPION")
    (bundle_directory(event["artefact_uri"]) / "forest.npz").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="SHA-256"):
        bench.step(False)
    assert bench.stages() == {"base": "CHAMPION"}
    assert not (tmp_path / "base+online-1").exists()


def test_what_it_took_out_itself_is_not_a_setback(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench.step(True)["base+online-1"] == "CHAMPION"
    frauds = bench.online.window.frauds
    assert bench.step(False)["base+online-1"] == "ROLLED_BACK"
    bench.step(False)
    assert bench.online.window.frauds == frauds > 0
