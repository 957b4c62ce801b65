"""The monitor's logic, for the live process and for the simulation. It does no I/O.

`receive` takes the messages of a topic. `due` runs the evaluations whose time has come and leaves
the resulting messages in `outbox`.

After a start the topics are read again from as far back as cells are kept; meanwhile `live` is
False and no alert is raised. `restore` takes the raised alerts and the quiet period from their own
topics. Losing the disk or moving to another machine therefore changes nothing, and the monitor's
memory cannot contradict Kafka.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from monitor.judge.alerts import SERVICE, STATES, Alerts
from monitor.judge.figures import FigureMinimums, Figures
from monitor.judge.gauges import show
from monitor.judge.guard import GuardRules
from monitor.judge.retrain import Retrain, RetrainRequest
from monitor.judge.rollback import ACTOR, StageRegistry, WorseModel, worse_models
from monitor.judge.rules import FEATURE_DRIFT, default_rules
from monitor.observe.observations import MemoryLimits, Observations
from monitor.observe.served_models import ServedModels
from runtime.clock import Clock
from runtime.kafka.protocols import Message
from runtime.metrics import Metrics
from runtime.settings import Settings
from schemas.codec import avro
from schemas.currency import CurrencyTable
from schemas.errors import BadMessage, ConfigurationError, FraudError
from schemas.features import HOUR
from schemas.records import Alert
from schemas.topics import (
    ALERTS,
    DECISIONS,
    FEATURES,
    LABELS,
    MODELS,
    RETRAIN_REQUESTS,
    TopicSpec,
)
from schemas.validation import SchemaRegistry

log = structlog.get_logger(__name__)
FOLLOWED: Final = (FEATURES, DECISIONS, LABELS, MODELS)


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorOptions:
    """How the monitor judges; the classes behind the fields explain them."""

    memory: MemoryLimits = field(default_factory=MemoryLimits)
    minimums: FigureMinimums = field(default_factory=FigureMinimums)
    guard: GuardRules = field(default_factory=GuardRules)
    min_precision: float = 0.85
    max_psi: float = 0.25
    quiet_ms: int = 6 * HOUR
    evaluate_every_ms: int = 60_000
    guard_every_ms: int = 5_000
    replayed: bool = False
    """Whether the clock follows event time."""

    @classmethod
    def from_settings(cls, settings: Settings) -> MonitorOptions:
        """Return the options that follow from the settings."""
        memory = MemoryLimits(
            approved=settings.monitor_records,
            flagged=max(settings.monitor_records // 4, 1),
            waiting=max(settings.monitor_records // 8, 1),
            label_delay_ms=settings.label_delay.ms,
        )
        return cls(
            memory=memory,
            minimums=FigureMinimums(labels=settings.monitor_labels),
            guard=GuardRules(fresh_ms=settings.monitor_fresh.ms),
            min_precision=settings.monitor_precision,
            max_psi=settings.monitor_psi,
            quiet_ms=settings.monitor_quiet.ms,
            replayed=settings.monitor_clock == "event",
        )


class Monitor:
    """Observes traffic, evaluates alert rules and rolls back bad models; see the module.

    Args:
        registry: changes the stages of models, either in Kafka at once or through `outbox`.
        label_registry: schema registry for labels in Confluent's wire format.
        pan_key: key for hashing card numbers in labels.
    """

    def __init__(
        self,
        options: MonitorOptions,
        *,
        clock: Clock,
        metrics: Metrics,
        currencies: CurrencyTable,
        models: ServedModels | None = None,
        registry: StageRegistry,
        label_registry: SchemaRegistry | None = None,
        pan_key: bytes | None = None,
    ) -> None:
        self.models = models or ServedModels()
        self.live = True
        self.outbox: deque[tuple[TopicSpec, bytes, bytes]] = deque()
        self.alerted: deque[Alert] = deque(maxlen=1_000)
        """Alerts that the notifier has not taken yet."""
        self.seen = Observations(
            options.memory,
            currencies,
            registry=label_registry,
            pan_key=pan_key,
            replayed=options.replayed,
        )
        self._options, self._clock, self._metrics = options, clock, metrics
        self._registry = registry
        self._alerts = Alerts(
            default_rules(min_precision=options.min_precision, max_psi=options.max_psi)
        )
        for rule in self._alerts.rules:
            for state in STATES:
                metrics.count("alerts", 0, rule=rule.name, state=state)
        self._retrain = Retrain(quiet_ms=options.quiet_ms)
        self._figures = Figures(self.seen, options.minimums)
        self._evaluated_at = self._guarded_at = -(2**62)
        self._rolled: dict[str, int] = {}
        self._failed: set[str] = set()
        self.seen.advance(clock.now_ms())

    def restore(self, alerts: Sequence[Message], requests: Sequence[Message]) -> None:
        """Restore the raised alerts and the quiet period from an earlier process's messages."""
        self._alerts.restore([alert for alert in _records(alerts, "Alert")])  # type: ignore[misc]
        asked: list[RetrainRequest] = _records(requests, "RetrainRequest")  # type: ignore[assignment]
        self._retrain.restore(asked)

    def receive(self, topic: str, messages: Sequence[Message]) -> None:
        """Take messages of a topic, given by its name without the prefix; count unreadable ones."""
        if not messages:
            return
        self._metrics.count("records", len(messages), topic=topic)
        self.seen.advance(self._clock.now_ms())
        if topic == FEATURES.name:
            refused = self.seen.sees_vectors(messages)
        elif topic == DECISIONS.name:
            refused = self.seen.sees_decisions(messages)
        elif topic == LABELS.name:
            refused = self.seen.sees_labels(messages)
        elif topic == MODELS.name:
            refused = self._change_models(messages)
        else:
            raise ValueError(f"the monitor does not follow {topic}")
        if refused:
            self._metrics.count("refused", refused, kind=topic)

    def due(self, transactions: Mapping[int, int] | None = None) -> bool:
        """Run the evaluations that are due; return whether the alert rules were among them.

        Missed intervals are not made up for: one evaluation stands for all of them.

        Args:
            transactions: end offsets of the partitions of `transactions`, if known.
        """
        now_ms = self._clock.now_ms()
        self.seen.advance(now_ms)
        if not self.live:
            return False
        if now_ms - self._guarded_at >= self._options.guard_every_ms:
            self._guarded_at = now_ms
            for found in worse_models(self.models, self.seen, self._options.guard, now_ms):
                self._roll_back(found, now_ms)
        if now_ms - self._evaluated_at < self._options.evaluate_every_ms:
            return False
        self._evaluated_at = now_ms
        serving = [*self.models.serving()]
        figures = self._figures.make(now_ms, serving, transactions)
        for alert in self._alerts.evaluate(figures, now_ms):
            self._alert(alert)
        champion = self.models.champion
        request = self._retrain.evaluate(
            self._alerts, now_ms, None if champion is None else champion["model_id"]
        )
        if request is not None:
            self._metrics.count("retrain_requests", reason=request["reason"])
            log.warning("retraining requested", **request)
            self._publish(RETRAIN_REQUESTS, request["reason"], "RetrainRequest", request)
        show(self._metrics, self.seen, self._figures, figures, self._alerts, now_ms)
        return True

    def _change_models(self, messages: Sequence[Message]) -> int:
        refused, window = 0, self.seen.features
        for message in messages:
            try:
                self.models.apply(message.key, message.value)
            except BadMessage as error:
                refused += 1
                log.warning("model event refused", reason=str(error))
        champion = self.models.champion
        try:
            self.seen.serve(
                None if champion is None else champion["model_id"], self.models.serving()
            )
        except ConfigurationError as error:
            log.warning("model watched without reference histograms", reason=str(error))
        if window is not None and self.seen.features is not window:
            # Otherwise it would stay raised for a day, until the new window is full.
            self._alerts.forget(FEATURE_DRIFT)
        for model_id, when in list(self._rolled.items()):
            state = self.models.states.get(model_id)
            if state is None or state.event["occurred_at"] > when or state.stage == "ROLLED_BACK":
                del self._rolled[model_id]
        return refused

    def _roll_back(self, found: WorseModel, now_ms: int) -> None:
        if found.model_id in self._rolled:  # rollback written, but not yet read back from `models`
            return
        detail = {
            "model": found.model_id, "stage": found.stage, "against": found.against,
            "test": found.verdict.test, "figure": f"{found.verdict.candidate:.6g}",
            "reference": f"{found.verdict.reference:.6g}",
            "decisions": str(found.verdict.decisions),
        }  # fmt: skip
        why = f"{found.verdict}, {found.against} is the reference"
        try:
            self._registry.change(found.model_id, "ROLLED_BACK", actor=ACTOR, comment=why)
        except FraudError as error:
            self._metrics.count("retries", step="rollback")
            if found.model_id not in self._failed:
                self._failed.add(found.model_id)
                self._alert(_notice("rollback_failed", f"{why}: {error}", detail, now_ms))
            return
        self._failed.discard(found.model_id)
        self._rolled[found.model_id] = now_ms
        self._metrics.count("rollbacks", test=found.verdict.test)
        self._alert(
            _notice("model_rolled_back", f"{found.model_id} rolled back: {why}", detail, now_ms)
        )

    def _alert(self, alert: Alert) -> None:
        log.warning("alert", rule=alert["rule"], summary=alert["summary"])
        self._metrics.count("alerts", rule=alert["rule"], state=alert["detail"]["state"])
        self.alerted.append(alert)
        self._publish(ALERTS, alert["rule"], "Alert", alert)

    def _publish(self, topic: TopicSpec, key: str, name: str, record: object) -> None:
        self.outbox.append((topic, key.encode(), avro.encode(name, record)))


def _notice(rule: str, summary: str, detail: dict[str, str], now_ms: int) -> Alert:
    return {
        "rule": rule, "severity": "CRITICAL", "summary": summary,
        "detail": {"state": "raised", **detail}, "service": SERVICE, "occurred_at": now_ms,
    }  # fmt: skip


def _records(messages: Sequence[Message], name: str) -> list[object]:
    found: list[object] = []
    for message in messages:
        try:
            kind, record = avro.decode(message.value or b"")
        except BadMessage as error:
            log.warning("unreadable record skipped", name=name, reason=str(error))
            continue
        if kind == name:
            found.append(record)
    return found
