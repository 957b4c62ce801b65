"""The loop itself: engine, scorer, archive, monitor and trainer, one step of event time at a time.

Each step serves the transactions of its time, hands labels out that became known in it, shows both
to the monitor, and does what comes of it. Nothing reads another clock than the event-time one.
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
from scorer.line_up import line
from scorer.model.bundle import Model, load_model
from scorer.serving import bundle_directory
from simulation.labels import LabelDesk
from simulation.learner import Learner
from simulation.monitor_process import Said, Watch
from simulation.plan import SIGNS, Plan, Scenario
from simulation.store import Store
from simulation.stream import Stream
from simulation.tally import Tally
from simulation.world import World

HISTORY_STEP: Final = 3 * HOUR
Progress = Callable[[float], None]


class Loop:
    """One run over the world, with learning or without.

    Args:
        folder: for archive, bundles and runs; it may hold the first champion already.
        champion: events of the registry to begin with; None: a first model is trained.
        progress: is told the days that are done.
    """

    def __init__(
        self,
        plan: Plan,
        world: World,
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
        self._stream = Stream(world, self._currencies, plan.label_delay_ms)
        silent = None
        if plan.scenario == Scenario.LABEL_OUTAGE:
            silent = (plan.onset_ms, plan.onset_ms + plan.outage_ms)
        self._desk = LabelDesk(world, silent)
        self._store = Store(folder / f"archive-{'on' if learning else 'off'}", self._currencies)
        self._broker = MemoryBroker(1)
        self._log = MemoryExclusiveLog(self._broker, MODELS.name)
        for message in champion or []:
            self._append(message.key, message.value)
        self._trained = champion is not None
        self._kept = learning or not self._trained
        self.registry = ModelRegistry(self._log, self._clock)
        self._learner = Learner(plan, folder, self.registry, self._clock, self._tell)
        self._models: dict[str, Model] = {}
        self._serving = Serving()
        self._seen = 0
        self._canary: dict[str, int] = {}
        self._canary_since: dict[str, int] = {}
        self._bad: str | None = None

    @property
    def events(self) -> list[Message]:
        """The registry's log."""
        return self._log.read()

    def history(self) -> list[Message]:
        """Fill engine and archive up to the start, train the first champion; return the log."""
        plan = self.plan
        for since in range(int(self.world.time[0]) // DAY * DAY, plan.start, HISTORY_STEP):
            until = since + HISTORY_STEP
            features = self._stream.features(self.world.rows(since, until), until)
            labels = self._stream.labels(self._desk.until(until), until)
            if self._kept and until > plan.archived_from:
                self._store.add(features)
                self._store.add(labels)
        self._set_clock(plan.start)
        if not self._trained:
            record = self._learner.first(self._store.flush())
            self._tell("champion", f"{record.model_id}: AUC {record.metrics['auc']:.4f}")
        return self.events

    def run(self) -> None:
        """Play the days of the plan."""
        plan = self.plan
        settings = {
            "FRAUD_MONITOR_QUIET": f"{plan.quiet_ms // MINUTE}m",
            "FRAUD_MONITOR_LABELS": str(plan.labels),
            "FRAUD_LABEL_DELAY": f"{plan.label_delay_ms // HOUR}h",
        }
        log = self._folder / f"monitor-{'on' if self.learning else 'off'}.log"
        with Watch(log, settings) as watch:
            for since in range(plan.start, plan.end, plan.step_ms):
                until = since + plan.step_ms
                self._set_clock(until)
                self._happens(since)
                self._models_to(watch)
                self._serve(since, until, watch)
                for said in watch.says(until):
                    self._hears(said)
                if self.learning:
                    if until % DAY == plan.trains_at:
                        self._learner.asked(self._store.flush(), "daily")
                    self._learner.due(self._canary)
                self._progress((until - plan.start) / DAY)

    def _serve(self, since: int, until: int, watch: Watch) -> None:
        rows = self.world.rows(since, until)
        features = self._stream.features(rows, until)
        if features:
            vectors = decode_feature_vectors([each.value for each in features])
            made = decide(vectors, self._serving, until * 1_000)
            decisions = [
                Message(DECISIONS.name, 0, row, until, None, value)
                for row, value in zip(rows, made.messages, strict=True)
            ]
            self._desk.alerted(self.tally.note(rows, made.action, made.role))
            for canary in self._serving.canaries:
                count = int((made.role == CANARY).sum())
                self._canary[canary.model.model_id] = (
                    self._canary.get(canary.model.model_id, 0) + count
                )
            self._keep(watch, features, until)
            self._keep(watch, decisions, until)
        self._keep(watch, self._stream.labels(self._desk.until(until), until), until)

    def _keep(self, watch: Watch, messages: list[Message], until: int) -> None:
        watch.sees(messages, until)
        if self._kept:
            self._store.add(messages)

    def _happens(self, since: int) -> None:
        """Do what the scenario wants at its time."""
        plan = self.plan
        if since == plan.onset_ms:
            self._tell("onset", _ONSET[plan.scenario])
            if plan.scenario == Scenario.BAD_MODEL:
                self._bad = self._learner.put_bad_model(self._store.flush())
        elif plan.scenario == Scenario.LABEL_OUTAGE and since == plan.onset_ms + plan.outage_ms:
            self._tell("labels_return", "those withheld come now")

    def _hears(self, said: Said) -> None:
        if said.topic == MODELS.name:
            self._roll_back(said)
            return
        record: Any = avro.decode(said.value)[1]
        now = self._clock.now_ms()
        if said.topic == ALERTS.name:
            self._tell(
                f"alert_{record['detail']['state']}", f"{record['rule']}: {record['summary']}"
            )
            noticed = record["rule"] in SIGNS[self.plan.scenario]
            noticed &= record["detail"]["state"] == "raised"
        elif said.topic == RETRAIN_REQUESTS.name:
            noticed = True
            self._tell("retrain_request", f"{record['reason']}: {record['detail']}")
            if self.learning:
                self._learner.asked(self._store.flush(), record["reason"])
        else:
            return
        if noticed and self.detected_at is None and now > self.plan.onset_ms:
            self.detected_at = now

    def _roll_back(self, said: Said) -> None:
        event: ModelEvent = avro.decode(said.value)[1]  # type: ignore[assignment]
        model_id = event["model_id"]
        decided = self._canary.get(model_id, 0)
        minutes = (
            self._clock.now_ms() - self._canary_since.get(model_id, self._clock.now_ms())
        ) / MINUTE
        if not self.learning:
            self._tell("rollback_not_done", f"{model_id}: {event['comment']}")
            return
        self._append(said.key, said.value)
        self._seen = len(self.events)
        self._refresh()
        self._tell("rolled_back", f"{model_id}: {event['comment']}")
        if self._bad is None or model_id == self._bad:
            self.rolled_back_after = {"decisions": decided, "minutes": minutes}

    def _models_to(self, watch: Watch) -> None:
        """Show new events of the registry to monitor and scorer."""
        events = self.events
        if self._seen == len(events):
            return
        watch.sees(events[self._seen :], self._clock.now_ms())
        self._seen = len(events)
        self._refresh()

    def _refresh(self) -> None:
        """Serve by the registry's line, as a scorer does."""
        serves = line(self.registry.states())
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

    def _tell(self, event: str, detail: str) -> None:
        at = datetime.fromtimestamp(self._clock.now_ms() / 1e3, UTC)
        self.timeline.append({"at": at.isoformat(), "event": event, "detail": detail})


_ONSET: Final = {
    Scenario.NEW_PATTERN: "the day on which a new kind of fraud begins",
    Scenario.DRIFT: "honest people begin to shop otherwise",
    Scenario.BAD_MODEL: "a broken model is made a canary",
    Scenario.LABEL_OUTAGE: "no label comes any more",
}
