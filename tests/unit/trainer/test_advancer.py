"""The steps that are due are taken in the registry, or told; decisions are counted once."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from runtime.clock import ManualClock
from runtime.kafka.memory import MemoryBroker, MemoryExclusiveLog
from runtime.kafka.model_registry import ModelRegistry
from runtime.metrics import Metrics
from runtime.settings import load_settings
from schemas.errors import ConfigurationError
from schemas.features import HOUR
from schemas.records import ModelEvent
from tests.support.trainer.archive_messages import START, add, decision, filled
from tests.unit.schemas.test_model_stages import event
from trainer.archive.delta_tables import Archive
from trainer.registry.advance import ACTOR, AdvanceRules, Lately, StageStep
from trainer.registry.advancer import Advancer, ArchivedDecisions, rules_of

RULES = AdvanceRules(canary_decisions=100)


class Bench:
    def __init__(self, *, approval: bool = False) -> None:
        self.clock, self.metrics = ManualClock(START), Metrics("trainer")
        self.registry = ModelRegistry(MemoryExclusiveLog(MemoryBroker(), "models"), self.clock)
        self.made: dict[str, int] = {}
        self.asked: list[str] = []
        self.lately = Lately(100, {"old": 90, "new": 10})
        self.advancer = Advancer(
            self.registry, RULES, self._count, lambda: self.lately, approval=approval,
            clock=self.clock, metrics=self.metrics,
        )  # fmt: skip
        for model_id in ("old", "new"):
            self.registry.register(event(model_id, "REGISTERED", at=START))
        self.registry.change("old", "CHAMPION", actor="jane")
        self.registry.change("new", "SHADOW", actor=ACTOR)

    def _count(self, canary: ModelEvent) -> int:
        self.asked.append(canary["model_id"])
        return self.made.get(canary["model_id"], 0)

    def due(self, hours: float) -> list[StageStep]:
        self.clock.advance(round(hours * HOUR))
        return self.advancer.due()

    def stages(self) -> dict[str, str]:
        return {state.model_id: state.stage for state in self.registry.states()}


def test_a_candidate_goes_all_the_way_in_the_registry() -> None:
    bench = Bench()
    assert bench.due(1) == []
    assert len(bench.due(1)) == 1
    state = bench.registry.states().get("new")
    assert state is not None
    assert (state.stage, state.event["canary_share"], state.event["actor"]) == (
        "CANARY", 0.1, ACTOR,
    )  # fmt: skip
    assert bench.due(1) == []
    assert bench.asked == []  # counting reads the archive: not before the time has come
    assert bench.due(1) == []
    bench.made["new"] = 100
    assert len(bench.due(0)) == 1
    assert bench.stages() == {"old": "FORMER_CHAMPION", "new": "CHAMPION"}


def test_a_canary_that_the_guard_took_out_is_never_promoted() -> None:
    bench = Bench()
    bench.due(2)
    bench.made["new"] = 10**6
    bench.registry.change("new", "ROLLED_BACK", actor="monitor")
    assert bench.due(99) == []
    assert bench.stages() == {"old": "CHAMPION", "new": "ROLLED_BACK"}


def test_a_step_that_another_made_impossible_meanwhile_is_left_out() -> None:
    bench = Bench()
    bench.due(2)
    bench.advancer._made = lambda canary: (  # the guard is quicker
        10**6 * len(bench.registry.change(canary["model_id"], "ROLLED_BACK", actor="monitor"))
    )
    assert bench.due(3) == []
    assert bench.stages()["new"] == "ROLLED_BACK"


def test_with_approval_it_is_told_and_nothing_is_done() -> None:
    bench = Bench(approval=True)
    bench.registry.register(event("by hand", "REGISTERED", at=START))
    bench.registry.change("new", "RETIRED", actor="jane")
    bench.registry.change("by hand", "SHADOW", actor="jane")
    bench.lately = Lately(100, {"by hand": 100})
    (step,) = bench.due(2)
    assert (step.model_id, step.stage) == ("by hand", "CANARY")
    assert bench.stages()["by hand"] == "SHADOW"
    assert b'fraud_advances_waiting{service="trainer"} 1.0' in bench.metrics.exposition()


def test_a_candidate_that_no_scorer_has_loaded_is_told_once_and_counted() -> None:
    bench = Bench()
    bench.lately = Lately(100, {"old": 100})
    with capture_logs() as lines:
        assert bench.due(2) == bench.due(1) == []
    told = [line for line in lines if "until a scorer has loaded it" in line["event"]]
    assert [line["model_id"] for line in told] == ["new"]
    assert b'fraud_advances_unloaded{service="trainer"} 1.0' in bench.metrics.exposition()
    bench.lately = Lately(100, {"old": 90, "new": 10})
    assert len(bench.due(0)) == 1
    assert b'fraud_advances_unloaded{service="trainer"} 0.0' in bench.metrics.exposition()


def test_the_newest_decisions_show_which_models_are_loaded(tmp_path: Path) -> None:
    def made(offset: int, at: int, model: str | None, *shadows: str) -> object:
        return decision(
            offset, model_id=model, decided_at=(START + at) * 1000,
            shadows=[{"model_id": each, "score": 0.5} for each in shadows],
        )  # fmt: skip

    url = str(tmp_path / "archive")
    rows = [
        made(0, 0, "long ago"), made(1, 400_000, "old", "one", "two"),
        made(2, 400_001, "old", "one"), made(3, 400_002, None), made(4, 400_003, "new"),
    ]  # fmt: skip
    filled(url, decisions=rows)  # type: ignore[arg-type]
    counter = ArchivedDecisions(Archive(url), ManualClock(START + 400_100), behind_ms=100)
    assert counter.lately() == Lately(4, {"old": 2, "new": 1, "one": 2, "two": 1})
    nowhere = ArchivedDecisions(Archive(str(tmp_path / "none")), ManualClock(START), behind_ms=0)
    assert nowhere.lately() == Lately()


def test_decisions_of_the_canary_since_its_event_are_counted_once(tmp_path: Path) -> None:
    def made(offset: int, at: int, model: str = "new", role: str = "CANARY") -> object:
        return decision(offset, model_id=model, model_role=role, decided_at=(START + at) * 1000)

    url = str(tmp_path / "archive")
    first = [made(0, -1), made(1, 0), made(2, 500), made(3, 500, "old", "CHAMPION"), made(4, 1000)]
    archive = filled(url, decisions=first)  # type: ignore[arg-type]
    clock = ManualClock(START + 1000 + 300)
    counter = ArchivedDecisions(Archive(url), clock, behind_ms=300)
    canary = event("new", "CANARY", 0.1, at=START)
    assert counter.made(canary) == 2
    add(archive, "decisions", [made(5, 1500), made(6, 1600, "new", "CHAMPION")])  # type: ignore[list-item]
    clock.advance(1000)
    assert counter.made(canary) == 4
    assert counter.made(canary) == 4
    assert counter.made(event("new", "CANARY", 0.1, at=START + 1500)) == 1


def test_without_an_archive_nothing_is_counted(tmp_path: Path) -> None:
    counter = ArchivedDecisions(Archive(str(tmp_path)), ManualClock(START), behind_ms=0)
    assert counter.made(event("new", "CANARY", 0.1, at=0)) == 0


def test_settings_that_contradict_each_other_are_named() -> None:
    with pytest.raises(ConfigurationError, match="FRAUD_CANARY_AT_MOST"):
        rules_of(load_settings(canary_for="3h", canary_at_most="2h"))
