"""The alias in MLflow follows the champion: asked for a change only, again where it failed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.clock import ManualClock
from runtime.kafka.memory import MemoryBroker, MemoryExclusiveLog
from runtime.kafka.model_registry import ModelRegistry
from runtime.metrics import Metrics
from runtime.settings import Settings, load_settings
from schemas.errors import TrackingUnavailable
from tests.support.waiting import until
from tests.unit.schemas.test_model_stages import event
from trainer.registry.advance import AdvanceRules
from trainer.registry.champion_alias import ChampionAlias
from trainer.service import advancing


class Bench:
    """A registry in memory, and an MLflow that has the models `known`."""

    def __init__(self) -> None:
        self.clock = ManualClock(1)
        self.registry = ModelRegistry(MemoryExclusiveLog(MemoryBroker(1), "models"), self.clock)
        self.known = {"old", "new"}
        self.away = False
        self.asked: list[str] = []
        self.alias = ChampionAlias(self._point)

    def _point(self, model_id: str) -> bool:
        self.asked.append(model_id)
        if self.away:
            raise TrackingUnavailable("away")
        return model_id in self.known

    def champion(self, name: str) -> None:
        self.registry.register(event(name, "REGISTERED"))
        self.registry.change(name, "CHAMPION", actor="me")

    def follow(self) -> list[str]:
        """Return what MLflow was asked for."""
        self.asked.clear()
        self.alias.follow(self.registry.states())
        return list(self.asked)


def test_it_goes_with_promotion_and_rollback_and_is_not_asked_for_otherwise() -> None:
    bench = Bench()
    assert bench.follow() == [], "nobody serves"
    bench.champion("old")
    assert (bench.follow(), bench.follow()) == (["old"], [])
    bench.champion("new")
    assert (bench.follow(), bench.follow()) == (["new"], [])
    bench.registry.change("new", "ROLLED_BACK", actor="monitor")
    assert (bench.follow(), bench.follow()) == (["old"], [])


def test_an_adjusted_champion_is_its_base() -> None:
    bench = Bench()
    bench.champion("old")
    bench.follow()
    bench.champion("old+online-1")
    assert bench.follow() == []
    bench.champion("new+online-3")
    assert bench.follow() == ["new"]


def test_what_mlflow_did_not_do_is_asked_for_again() -> None:
    bench = Bench()
    bench.champion("old")
    bench.away = True
    assert (bench.follow(), bench.follow()) == (["old"], ["old"])
    bench.away, bench.known = False, set()
    assert (bench.follow(), bench.follow()) == (["old"], ["old"])
    bench.known = {"old"}
    assert (bench.follow(), bench.follow()) == (["old"], [])


def test_after_a_training_which_has_set_it_by_its_start_it_is_asked_for_again() -> None:
    bench = Bench()
    bench.champion("old")
    bench.follow()
    bench.alias.moved()
    assert (bench.follow(), bench.follow()) == (["old"], [])


def test_the_service_follows_beside_the_candidates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench()
    bench.champion("old")
    bench.away = True

    @contextmanager
    def opened(settings: Settings) -> Iterator[ModelRegistry]:
        yield bench.registry

    monkeypatch.setattr(advancing, "open_registry", opened)
    monkeypatch.setattr(advancing, "EVERY_S", 0.01)
    settings, ended = load_settings(), threading.Event()
    work = advancing.Advancing(
        settings, AdvanceRules(), str(tmp_path), bench.clock, Metrics("trainer"), bench.alias
    )
    thread = threading.Thread(target=work.run, args=(ended,))
    thread.start()
    try:
        until(lambda: len(bench.asked) > 2, "tried again while MLflow is away")
        bench.away = False
        bench.champion("new")
        until(lambda: bench.asked[-1:] == ["new"], "the new champion's version")
    finally:
        ended.set()
        thread.join()
