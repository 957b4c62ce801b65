"""The monitor as a whole on a clock of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor.judge.figures import FigureMinimums
from monitor.observe.observations import MemoryLimits
from monitor.observe.served_models import ServedModels
from monitor.service import Monitor, MonitorOptions
from runtime.clock import ManualClock
from runtime.kafka.protocols import Message
from runtime.metrics import Metrics, read_exposition
from schemas.codec import avro
from schemas.currency import CurrencyTable
from schemas.errors import BrokerUnavailable
from schemas.features import HOUR
from schemas.topics import ALERTS, DECISIONS, FEATURES, LABELS, MODELS, RETRAIN_REQUESTS
from tests.support.monitor.traffic import (
    START,
    bundle,
    decision_message,
    label_message,
    model_event,
    scores,
    vector_message,
    vectors,
)

MINUTE = 60_000
OPTIONS = MonitorOptions(
    memory=MemoryLimits(approved=20_000, flagged=5_000, waiting=2_000, drift_hours=2),
    minimums=FigureMinimums(labels=20, rows=500, covered=0.5),
)


class RefusingRegistry:
    """Kafka is away for the first `failures` changes."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.changes: list[tuple[str, str, str]] = []

    def change(self, model_id: str, stage: str, *, actor: str, comment: str) -> None:
        if self.failures:
            self.failures -= 1
            raise BrokerUnavailable("no broker")
        self.changes.append((model_id, stage, actor))


class Bench:
    """A monitor with a champion, fed by hand."""

    def __init__(self, folder: Path, failures: int = 0, options: MonitorOptions = OPTIONS) -> None:
        self.folder = folder
        self.clock, self.metrics = ManualClock(START), Metrics("monitor")
        self.registry = RefusingRegistry(failures)
        self.monitor = Monitor(
            options, clock=self.clock, metrics=self.metrics, currencies=CurrencyTable(),
            registry=self.registry,
        )  # fmt: skip
        self.draw = np.random.default_rng(1)
        self.number = 0
        self.model("champion", "CHAMPION")

    def model(
        self,
        name: str,
        stage: Any,
        share: float | None = None,
        *,
        at: int | None = None,
        seed: int = 1,
    ) -> None:
        """Put a model at a stage, now or at `at`; `seed` draws its reference."""
        directory = self.folder / name
        sha256 = bundle(directory, name, seed)
        moment = self.clock.now_ms() if at is None else at
        event = model_event(directory, sha256, stage, moment, share)
        self.put(MODELS.name, [event], name.encode())

    def put(self, topic: str, values: list[bytes], key: bytes | None = None) -> None:
        now = self.clock.now_ms()
        self.monitor.receive(topic, [Message(topic, 0, 0, now, key, value) for value in values])

    def decide(
        self, found: np.ndarray, model_id: str = "champion", *, precision: float | None = None,
        shift: float = 0.0, behind: int = 0, decided_at: int | None = None,
    ) -> None:  # fmt: skip
        """Send vectors and decisions; label the alerts, `precision` of them as frauds.

        Transactions are of `behind` ms ago, decided now or at `decided_at`.
        """
        now = self.clock.now_ms() - behind
        decided = 1000 * (self.clock.now_ms() if decided_at is None else decided_at)
        numbers = range(self.number, self.number + len(found))
        self.number += len(found)
        matrix = vectors(self.draw, len(found)) + shift
        self.put(FEATURES.name, [
            vector_message(n, row, now) for n, row in zip(numbers, matrix, strict=True)
        ])  # fmt: skip
        self.put(DECISIONS.name, [
            decision_message(n, score, now, model_id, decided_at=decided)
            for n, score in zip(numbers, found.tolist(), strict=True)
        ])  # fmt: skip
        if precision is not None:
            flagged = [n for n, score in zip(numbers, found, strict=True) if score > 0.75]
            self.put(LABELS.name, [
                label_message(n, place < precision * len(flagged), now)
                for place, n in enumerate(flagged)
            ])  # fmt: skip

    def turn(self, minutes: int = 1) -> list[tuple[str, str]]:
        """Let time go by; return topic and rule or reason of what was written."""
        written = []
        for _ in range(minutes):
            self.clock.advance(MINUTE)
            self.monitor.due()
            while self.monitor.outbox:
                topic, key, value = self.monitor.outbox.popleft()
                avro.decode(value)
                written.append((topic.name, key.decode()))
        return written

    def metric(self, name: str, **labels: str) -> float:
        (value,) = [
            value
            for found, of, value in read_exposition(self.metrics.exposition().decode())
            if found == f"fraud_{name}" and labels.items() <= of.items()
        ]
        return value


def test_low_precision_raises_an_alert_and_asks_for_a_model_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.decide(scores(bench.draw, 3_000), precision=0.95)
    assert bench.turn(3) == []
    bench.clock.advance(HOUR)
    bench.decide(scores(bench.draw, 3_000), precision=0.5)
    assert bench.turn(10) == [(ALERTS.name, "low_precision"), (RETRAIN_REQUESTS.name, "precision")]
    assert bench.metric("quality_precision", segment="ECOM", action="ALERT") < 0.85
    assert bench.metric("retrain_requests_total", reason="precision") == 1
    assert bench.metric("stage_delay_seconds", stage="decision", percentile="50") < 0.002
    assert bench.metric("drift_psi", column="card_tx_count_24h") < 0.1


def test_drift_that_holds_asks_for_a_model(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.decide(scores(bench.draw, 2_000), precision=0.95, shift=1.0)
    written = bench.turn(5)
    assert (ALERTS.name, "feature_drift") in written
    assert written.count((RETRAIN_REQUESTS.name, "drift")) == 1
    assert bench.metric("drift_psi", column="card_tx_count_24h") > 0.25


def test_drift_from_a_former_champion_is_forgotten_with_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.decide(scores(bench.draw, 2_000), precision=0.95, shift=1.0)
    bench.turn(5)
    bench.clock.advance(7 * HOUR)  # beyond the quiet time after the first request
    bench.model("fresh", "CHAMPION", seed=2)
    assert bench.turn(5) == [(ALERTS.name, "feature_drift")]  # resolved, and nothing asked for
    assert bench.metric("retrain_requests_total", reason="drift") == 1


def test_drift_goes_on_under_an_adjustment_of_the_champion(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.decide(scores(bench.draw, 2_000), precision=0.95, shift=1.0)
    bench.model("champion+online-1", "CHAMPION")
    written = bench.turn(5)
    assert (ALERTS.name, "feature_drift") in written
    assert (RETRAIN_REQUESTS.name, "drift") in written
    bench.model("champion+online-2", "CHAMPION")
    assert (ALERTS.name, "feature_drift") not in bench.turn(5), "neither resolved nor told anew"


def test_a_broken_canary_is_rolled_back_once_and_an_alert_says_when_that_fails(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, failures=2)
    bench.model("canary", "CANARY", share=0.1)
    bench.decide(scores(bench.draw, 900))
    bench.decide(np.full(100, 0.99), "canary")
    assert bench.turn() == [(ALERTS.name, "rollback_failed")]
    assert bench.turn() == []
    assert bench.turn() == [(ALERTS.name, "model_rolled_back")]
    assert bench.registry.changes == [("canary", "ROLLED_BACK", "monitor")]
    assert bench.turn(3) == []  # not yet read back from `models`: not again


def test_a_fresh_champion_is_held_against_the_one_before(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.decide(scores(bench.draw, 2_000))
    bench.clock.advance(2 * HOUR)
    bench.model("fresh", "CHAMPION")
    bench.decide(scores(bench.draw, 400), "fresh")
    bench.turn()
    assert bench.registry.changes == []
    bench.decide(np.full(300, 0.97), "fresh")
    bench.turn()
    assert bench.registry.changes == [("fresh", "ROLLED_BACK", "monitor")]


def test_a_canary_in_a_backlog_is_judged_by_the_old_hours_that_it_decides(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.clock.advance(9 * HOUR)
    bench.model("canary", "CANARY", share=0.1)
    bench.decide(scores(bench.draw, 900), behind=5 * HOUR)
    bench.decide(np.full(100, 0.99), "canary", behind=5 * HOUR)
    bench.turn()
    assert bench.registry.changes == [("canary", "ROLLED_BACK", "monitor")]


def test_a_canary_that_comes_back_is_not_judged_by_its_former_trial(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.model("canary", "CANARY", share=0.1)
    bench.decide(scores(bench.draw, 900))
    bench.decide(np.full(100, 0.99), "canary")
    bench.clock.advance(2 * HOUR)
    (tmp_path / "repaired").mkdir()
    bench.folder = tmp_path / "repaired"
    bench.model("canary", "CANARY", share=0.1)
    bench.decide(scores(bench.draw, 900))
    bench.decide(scores(bench.draw, 100), "canary")
    bench.turn()
    assert bench.registry.changes == []


@pytest.mark.parametrize("stage", ["CANARY", "CHAMPION"])
def test_a_broken_model_is_found_in_replayed_history(tmp_path: Path, stage: str) -> None:
    """The clock is that of events a year ago; stages and decisions are of today."""
    bench = Bench(tmp_path)
    today = START + 9_000 * HOUR
    bench.decide(scores(bench.draw, 2_000), decided_at=today)
    bench.clock.advance(2 * HOUR)
    share = 0.1 if stage == "CANARY" else None
    bench.model("broken", stage, share, at=today + MINUTE)
    bench.decide(scores(bench.draw, 900), decided_at=today + 2 * MINUTE)
    bench.decide(np.full(300, 0.97), "broken", decided_at=today + 2 * MINUTE)
    bench.turn()
    assert bench.registry.changes == [("broken", "ROLLED_BACK", "monitor")]


def test_a_champion_of_replayed_history_grows_old_by_its_events(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    today = START + 9_000 * HOUR
    bench.decide(scores(bench.draw, 2_000), decided_at=today)
    bench.model("fresh", "CHAMPION", at=today)
    bench.decide(scores(bench.draw, 20), "fresh", decided_at=today + MINUTE)
    bench.clock.advance(25 * HOUR)
    bench.decide(np.full(300, 0.97), "fresh", decided_at=today + 2 * MINUTE)
    bench.turn()
    assert bench.registry.changes == []


def test_an_old_champion_is_not_rolled_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.decide(scores(bench.draw, 2_000))
    bench.model("fresh", "CHAMPION")
    bench.clock.advance(25 * HOUR)
    bench.decide(np.full(300, 0.97), "fresh")
    bench.turn()
    assert bench.registry.changes == []


def test_decisions_and_labels_that_stop_raise_alerts(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.decide(scores(bench.draw, 1_000), precision=1.0)
    bench.clock.advance(5 * MINUTE)
    bench.put(FEATURES.name, [vector_message(5_000, vectors(bench.draw, 1)[0], START)])
    assert (ALERTS.name, "decisions_stopped") in bench.turn(3)
    bench.clock.advance(25 * HOUR)
    assert (ALERTS.name, "labels_stopped") in bench.turn()


def test_nothing_is_raised_while_the_topics_are_read_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.monitor.live = False
    bench.decide(scores(bench.draw, 3_000), precision=0.5)
    assert bench.turn(5) == []
    bench.monitor.live = True
    assert bench.turn(5) != []


def test_what_cannot_be_read_is_counted_and_a_wrong_bundle_only_costs_its_drift(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path)
    for topic in (FEATURES.name, DECISIONS.name, LABELS.name, MODELS.name):
        bench.put(topic, [b"noise"])
        assert bench.metric("refused_total", kind=topic) == 1
    (tmp_path / "champion" / "histograms.json").write_text("{}")
    moved = model_event(tmp_path / "champion", "0" * 64, "CHAMPION", START)
    other = ServedModels()
    other.apply(b"champion", moved)
    assert other.serving() == {"champion": {}}


def test_the_champion_before_is_the_one_that_a_rollback_leads_to(tmp_path: Path) -> None:
    models = ServedModels(load=lambda event: {})
    line = [("old", "CHAMPION"), ("new", "CHAMPION"), ("new", "ROLLED_BACK"), ("old", "RETIRED")]
    found = []
    for at, (name, stage) in enumerate(line):
        stages: Any = stage
        models.apply(name.encode(), model_event(tmp_path / name, name, stages, at))
        found.append((models.champion and models.champion["model_id"], models.previous))
    assert found == [("old", None), ("new", "old"), ("old", None), (None, None)]


@pytest.mark.parametrize("broken", ["one", "two"])
def test_each_of_several_canaries_is_judged(tmp_path: Path, broken: str) -> None:
    bench = Bench(tmp_path)
    for name in ("one", "two"):
        bench.model(name, "CANARY", share=0.1)
    bench.decide(scores(bench.draw, 900))
    for name in ("one", "two"):
        found = np.full(100, 0.99) if name == broken else scores(bench.draw, 100)
        bench.decide(found, name)
    bench.turn()
    assert bench.registry.changes == [(broken, "ROLLED_BACK", "monitor")]


def test_a_champion_is_watched_for_a_day(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.decide(scores(bench.draw, 2_000))
    bench.model("fresh", "CHAMPION")
    bench.clock.advance(23 * HOUR)
    bench.decide(np.full(300, 0.97), "fresh")
    bench.turn()
    assert bench.registry.changes == [("fresh", "ROLLED_BACK", "monitor")]


def test_the_champion_before_is_taken_by_its_last_day(tmp_path: Path) -> None:
    """Long ago it blocked one in seven, too."""
    bench = Bench(tmp_path)

    def one_in_seven(count: int) -> np.ndarray:
        return np.where(np.arange(count) % 7 == 0, 0.97, scores(bench.draw, count))

    bench.decide(one_in_seven(2_000))
    for _ in range(24):
        bench.clock.advance(HOUR)
        bench.decide(scores(bench.draw, 100))
    bench.clock.advance(HOUR)
    bench.model("fresh", "CHAMPION")
    bench.decide(one_in_seven(1_500), "fresh")
    bench.turn()
    assert bench.registry.changes == [("fresh", "ROLLED_BACK", "monitor")]


def test_the_guard_looks_every_five_seconds(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.model("canary", "CANARY", share=0.1)
    bench.turn()
    bench.decide(scores(bench.draw, 900))
    bench.decide(np.full(100, 0.99), "canary")
    bench.clock.advance(4_999)
    bench.monitor.due()
    assert bench.registry.changes == []
    bench.clock.advance(1)
    bench.monitor.due()
    assert bench.registry.changes == [("canary", "ROLLED_BACK", "monitor")]


def test_a_canary_that_is_broken_again_is_rolled_back_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    written = []
    for trial in ("first", "second"):
        bench.folder = tmp_path / trial
        bench.folder.mkdir()
        bench.model("canary", "CANARY", share=0.1)
        bench.decide(scores(bench.draw, 900))
        bench.decide(np.full(100, 0.99), "canary")
        bench.registry.failures = 1
        written += bench.turn(3)
        bench.folder = tmp_path / f"{trial} taken out"
        bench.folder.mkdir()
        bench.model("canary", "ROLLED_BACK")
        bench.clock.advance(2 * HOUR)
    assert bench.registry.changes == [("canary", "ROLLED_BACK", "monitor")] * 2
    assert written == [(ALERTS.name, "rollback_failed"), (ALERTS.name, "model_rolled_back")] * 2
