"""When the watchdog calls for a restart, and when it must not."""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime.kafka.protocols import TopicPartition
from runtime.metrics import Metrics
from schemas.errors import StoreUnavailable
from stream_features.worker.watchdog import Watchdog

AT = TopicPartition("t", 0)


@dataclass
class Scene:
    """A worker at offset 5 of 9 whose consumer has stopped there."""

    cursors: dict[TopicPartition, int] = field(default_factory=lambda: {AT: 5})
    end: int = 9
    position: int = 5
    held: bool = False
    waiting: bool = False
    away: bool = False
    fault: str = ""
    now: float = 0.0
    stall: dict[str, float] = field(default_factory=lambda: {"stall_s": 10.0})

    def __post_init__(self) -> None:
        self.metrics = Metrics("test")
        self.dog = Watchdog(
            self,
            look_at_store=self.look_at_store,
            ends=lambda: {AT: self.end},
            fetched=lambda: {AT: self.position},
            metrics=self.metrics,
            monotonic=lambda: self.now,
            **self.stall,
        )

    def look_at_store(self) -> str:
        if self.away:
            raise StoreUnavailable("store away")
        return self.fault

    def holds(self, partition: int) -> bool:
        return self.waiting

    def held_by_others(self) -> bool:
        return self.held

    def after(self, seconds: float) -> str:
        self.now += seconds
        return self.dog.look()


def test_no_progress_with_records_waiting() -> None:
    scene = Scene()
    assert scene.after(0) == ""
    assert scene.after(9) == ""
    assert scene.after(1) == "t[0] at 5 of 9"
    assert b'fraud_lag{partition="0",service="test",topic="t"} 4.0' in scene.metrics.exposition()


def test_progress_starts_the_clock_anew() -> None:
    scene = Scene()
    scene.after(0)
    scene.after(9)
    scene.cursors[AT] = 6
    assert scene.after(1) == ""
    assert scene.after(9) == ""
    assert scene.after(1) != ""


def test_an_outage_is_not_a_stall() -> None:
    scene = Scene()
    scene.after(0)
    scene.away = True
    assert scene.after(60) == ""
    assert scene.dog.unreachable == "store away"
    scene.away = False
    assert scene.after(1) == ""
    assert scene.dog.unreachable == ""
    assert scene.after(9) == ""
    assert scene.after(1) != ""


def test_what_is_wrong_with_a_store_that_answers_is_told_and_hides_no_stall() -> None:
    scene = Scene(fault="it evicts")
    scene.after(0)
    assert (scene.dog.store_fault, scene.dog.unreachable) == ("it evicts", "")
    assert scene.after(10) != ""
    scene.fault = ""
    scene.after(1)
    assert scene.dog.store_fault == ""


def test_lag_goes_on_to_be_shown_while_the_store_is_away() -> None:
    scene = Scene()
    scene.after(0)
    scene.away, scene.end = True, 25
    scene.after(5)
    shown = scene.metrics.exposition()
    assert b'fraud_lag{partition="0",service="test",topic="t"} 20.0' in shown
    assert b'fraud_reachable{dependency="redis",service="test"} 0.0' in shown
    assert b'fraud_reachable{dependency="kafka",service="test"} 1.0' in shown


def test_gaps_at_the_end_and_waiting_for_others_are_not_a_stall() -> None:
    for quiet in (Scene(position=9), Scene(held=True), Scene(end=5)):
        quiet.after(0)
        assert quiet.after(60) == ""


def test_records_that_were_read_and_stay_in_the_buffer_are_a_stall() -> None:
    scene = Scene(position=9, waiting=True)
    scene.after(0)
    assert scene.after(10) != ""


def test_a_partition_given_away_is_forgotten() -> None:
    scene = Scene()
    scene.after(0)
    scene.cursors.clear()
    scene.after(5)
    scene.cursors[AT] = 5
    assert scene.after(5) == ""


def test_without_a_setting_a_stall_is_half_a_minute_without_progress() -> None:
    scene = Scene(stall={})
    assert scene.after(0) == ""
    assert scene.after(29) == ""
    assert scene.after(1) == "t[0] at 5 of 9"
