"""The learning loop: engine, scorer, archive, monitor and trainer, step by step of event time.

Each step scores the transactions of its time, hands out the labels that became known in it, shows
both to the monitor, and acts on what the monitor says. Everything reads the event-time clock.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from runtime.clock import ManualClock
from runtime.kafka.memory import MemoryBroker, MemoryExclusiveLog
from runtime.kafka.model_registry import ModelRegistry
from runtime.kafka.protocols import Message
from schemas.codec import avro
from schemas.codec.vectors import decode_feature_vectors
from schemas.currency import CurrencyTable
from schemas.features import DAY, HOUR, MINUTE
from schemas.records import ModelEvent
from schemas.topics import ALERTS, DECISIONS, MODELS, RETRAIN_REQUESTS
from scorer.decision.decide import decide
from scorer.decision.judge import CANARY, Canary, Serving
from scorer.line_up import line_up
from scorer.model.bundle import Model, load_model
from scorer.serving import bundle_directory
from simulation.label_desk import LabelDesk
from simulation.simulated_archive import SimulatedArchive
from simulation.simulated_monitor import Produced, SimulatedMonitor
from simulation.simulated_stream import SimulatedStream
from simulation.simulated_trainer import SimulatedTrainer
from simulation.simulated_world import SimulatedWorld
from simulation.simulation_plan import SIGNS, SimulationPlan, SimulationScenario
from simulation.tally import Tally
from trainer.registry.advance import Lately

HISTORY_STEP: Final = 3 * HOUR
Progress = Callable[[float], None]


class LearningLoop:
    """One run over the world, with learning or without.

    Args:
        folder: for archive, bundles and runs; it may already hold the first champion.
        champion: events to start the registry with; None trains a first model.
        progress: gets the days done.
    """

    def __init__(
        self,
        plan: SimulationPlan,
        world: SimulatedWorld,
        folder: Path,
        *,
        learning: bool,
        champion: list[Message] | None = None,
        progress: Progress = lambda days: None,
    ) -> None:
        self.plan, self.world, self.learning = plan, world, learning
        self.timeline: list[dict[str, str]] = []
        self.tally = Tally(world)
        self.detected_at: int | None = None
        self.rolled_back_after: dict[str, float] | None = None
        self._folder, self._progress = folder, progress
        self._clock = ManualClock(plan.archived_from)
        self._currencies = CurrencyTable("EUR", {})
        self._stream = SimulatedStream(world, self._currencies, plan.label_delay_ms)
        silent = None
        if plan.scenario == SimulationScenario.LABEL_OUTAGE:
            silent = (plan.onset_ms, plan.onset_ms + plan.outage_ms)
        self._desk = LabelDesk(world, silent)
        self._archive = SimulatedArchive(
            folder / f"archive-{'on' if learning else 'off'}", self._currencies
        )
        self._monitor = SimulatedMonitor(plan, self._clock, self._currencies)
        self._log = MemoryExclusiveLog(MemoryBroker(1), MODELS.name)
        for message in champion or []:
            self._append(message.key, message.value)
        self._trained = champion is not None
        self._kept = learning or not self._trained
        self.registry = ModelRegistry(self._log, self._clock)
        self._trainer = SimulatedTrainer(plan, folder, self.registry, self._clock, self._record)
        self._models: dict[str, Model] = {}
        self._serving = Serving()
        self._seen = 0
        self._canary: dict[str, int] = {}
        self._lately = Lately()
        self._canary_since: dict[str, int] = {}
        self._bad: str | None = None

    @property
    def events(self) -> list[Message]:
        """The registry's log."""
        return self._log.read()

    def history(self) -> list[Message]:
        """Fill engine and archive up to the start; return the registry with a first champion."""
        plan = self.plan
        for since in range(int(self.world.time[0]) // DAY * DAY, plan.start, HISTORY_STEP):
            until = since + HISTORY_STEP
            features = self._stream.features(self.world.rows(since, until), until)
            labels = self._stream.labels(self._desk.until(until), until)
            if self._kept and until > plan.archived_from:
                self._archive.add(features)
                self._archive.add(labels)
        self._set_clock(plan.start)
        if not self._trained:
            record = self._trainer.first(self._archive.flush())
            self._record("champion", f"{record.model_id}: AUC {record.metrics['auc']:.4f}")
        return self.events

    def run(self) -> None:
        """Play the days of the plan."""
        plan = self.plan
        for since in range(plan.start, plan.end, plan.step_ms):
            until = since + plan.step_ms
            self._set_clock(until)
            self._play_event(since)
            self._show_models()
            self._serve(since, until)
            for produced in self._monitor.due():
                self._react(produced)
            if self.learning:
                if until % DAY == plan.trains_at:
                    self._trainer.request(self._archive.flush(), "daily")
                self._trainer.advance(self._canary, self._lately)
            self._progress((until - plan.start) / DAY)

    def _serve(self, since: int, until: int) -> None:
        rows = self.world.rows(since, until)
        features = self._stream.features(rows, until)
        if features:
            vectors = decode_feature_vectors([each.value for each in features])
            made = decide(vectors, self._serving, until * 1_000)
            decisions = [
                Message(DECISIONS.name, 0, row, until, None, value)
                for row, value in zip(rows, made.messages, strict=True)
            ]
            loaded = self._serving.models()
            self._lately = Lately(len(rows), {model.model_id: len(rows) for model in loaded})
            self._desk.alerted(self.tally.note(rows, made.action, made.role))
            for canary in self._serving.canaries:
                count = int((made.role == CANARY).sum())
                self._canary[canary.model.model_id] = (
                    self._canary.get(canary.model.model_id, 0) + count
                )
            self._keep(features)
            self._keep(decisions)
        self._keep(self._stream.labels(self._desk.until(until), until))

    def _keep(self, messages: list[Message]) -> None:
        self._monitor.receive(messages)
        if self._kept:
            self._archive.add(messages)

    def _play_event(self, since: int) -> None:
        """Let the scenario's event happen when it is time for it."""
        plan = self.plan
        if since == plan.onset_ms:
            self._record("onset", _ONSET[plan.scenario])
            if plan.scenario == SimulationScenario.BAD_MODEL:
                self._bad = self._trainer.put_bad_model(self._archive.flush())
        elif (
            plan.scenario == SimulationScenario.LABEL_OUTAGE
            and since == plan.onset_ms + plan.outage_ms
        ):
            self._record("labels_return", "the withheld labels arrive")

    def _react(self, produced: Produced) -> None:
        if produced.topic == MODELS.name:
            self._roll_back(produced)
            return
        record: Any = avro.decode(produced.value)[1]
        now = self._clock.now_ms()
        if produced.topic == ALERTS.name:
            self._record(
                f"alert_{record['detail']['state']}", f"{record['rule']}: {record['summary']}"
            )
            noticed = record["rule"] in SIGNS[self.plan.scenario]
            noticed &= record["detail"]["state"] == "raised"
        elif produced.topic == RETRAIN_REQUESTS.name:
            noticed = True
            self._record("retrain_request", f"{record['reason']}: {record['detail']}")
            if self.learning:
                self._trainer.request(self._archive.flush(), record["reason"])
        else:
            return
        if noticed and self.detected_at is None and now > self.plan.onset_ms:
            self.detected_at = now

    def _roll_back(self, produced: Produced) -> None:
        event: ModelEvent = avro.decode(produced.value)[1]  # type: ignore[assignment]
        model_id = event["model_id"]
        decided = self._canary.get(model_id, 0)
        minutes = (
            self._clock.now_ms() - self._canary_since.get(model_id, self._clock.now_ms())
        ) / MINUTE
        if not self.learning:
            self._record("rollback_not_done", f"{model_id}: {event['comment']}")
            return
        self._append(produced.key, produced.value)
        self._seen = len(self.events)
        self._refresh()
        self._record("rolled_back", f"{model_id}: {event['comment']}")
        if self._bad is None or model_id == self._bad:
            self.rolled_back_after = {"decisions": decided, "minutes": minutes}

    def _show_models(self) -> None:
        """Pass new events of the registry on to monitor and scorer."""
        events = self.events
        if self._seen == len(events):
            return
        self._monitor.receive(events[self._seen :])
        self._seen = len(events)
        self._refresh()

    def _refresh(self) -> None:
        """Load and serve the models that the registry puts in service, as a scorer does."""
        serves = line_up(self.registry.states())
        for event in serves.events:
            if event["model_id"] not in self._models:
                directory = bundle_directory(event["artefact_uri"])
                self._models[event["model_id"]] = load_model(directory, event["sha256"])
        for event in serves.canaries:
            self._canary_since.setdefault(event["model_id"], self._clock.now_ms())
        champion = serves.champion
        self._serving = Serving(
            champion=None if champion is None else self._models[champion["model_id"]],
            canaries=tuple(
                Canary(self._models[each["model_id"]], each["canary_share"] or 0.0)
                for each in serves.canaries
            ),
            shadows=tuple(self._models[each["model_id"]] for each in serves.shadows),
        )

    def _append(self, key: bytes | None, value: bytes | None) -> None:
        self._log.append(lambda _: [(key or b"", value or b"")])

    def _set_clock(self, now_ms: int) -> None:
        self._clock.advance(now_ms - self._clock.now_ms())

    def _record(self, event: str, detail: str) -> None:
        at = datetime.fromtimestamp(self._clock.now_ms() / 1e3, UTC)
        self.timeline.append({"at": at.isoformat(), "event": event, "detail": detail})


_ONSET: Final = {
    SimulationScenario.NEW_PATTERN: "a new kind of fraud begins on this day",
    SimulationScenario.DRIFT: "honest people begin to shop differently",
    SimulationScenario.BAD_MODEL: "a broken model becomes a canary",
    SimulationScenario.LABEL_OUTAGE: "labels stop arriving",
}
