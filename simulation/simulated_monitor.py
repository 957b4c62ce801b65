"""The monitor on the simulation's clock: messages in, the messages that it would produce out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from monitor.observe.served_models import ServedModels
from monitor.service import Monitor, MonitorOptions
from runtime.clock import Clock
from runtime.kafka.protocols import Message
from runtime.metrics import Metrics
from runtime.settings import load_settings
from schemas.codec import avro
from schemas.currency import CurrencyTable
from schemas.model_stages import ModelStates
from schemas.records import ModelEvent, Stage
from schemas.topics import MODELS
from simulation.simulation_plan import SimulationPlan


class Produced(NamedTuple):
    """A message that the monitor would have sent to Kafka."""

    topic: str
    key: bytes
    value: bytes


class CheckedRegistry:
    """Changes the stages of models, each step checked against `states`, without a log of its own.

    `publish` gets the key and the value of each event.
    """

    def __init__(
        self, states: ModelStates, publish: Callable[[bytes, bytes], None], clock: Clock
    ) -> None:
        self._states, self._publish, self._clock = states, publish, clock

    def change(self, model_id: str, stage: Stage, *, actor: str, comment: str) -> ModelEvent:
        """Put a model at a stage. Raises ImpossibleTransition."""
        event = self._states.changed(
            model_id,
            stage,
            actor=actor,
            comment=comment,
            share=None,
            occurred_at=self._clock.now_ms(),
        )
        self._publish(model_id.encode(), avro.encode("ModelEvent", event))
        return event


class SimulatedMonitor:
    """The service's rules, guard and retrain requests, by the time of `clock`.

    Options come from the environment, except for those that the plan sets. The monitor sees its own
    rollbacks at once, whether or not they are carried out.
    """

    def __init__(self, plan: SimulationPlan, clock: Clock, currencies: CurrencyTable) -> None:
        options = MonitorOptions.from_settings(load_settings())
        models = ServedModels()
        self._clock = clock
        self._monitor = Monitor(
            replace(
                options,
                memory=replace(options.memory, label_delay_ms=plan.label_delay_ms),
                minimums=replace(options.minimums, labels=plan.labels),
                quiet_ms=plan.quiet_ms,
            ),
            clock=clock,
            metrics=Metrics("monitor"),
            currencies=currencies,
            models=models,
            registry=CheckedRegistry(models.states, self._roll_back, clock),
        )

    def receive(self, messages: Sequence[Message]) -> None:
        """Hand over messages of one topic."""
        if messages:
            self._monitor.receive(messages[0].topic, messages)

    def due(self) -> list[Produced]:
        """Evaluate everything that is due; return what the monitor would produce."""
        self._monitor.due()
        made = [Produced(spec.name, key, value) for spec, key, value in self._monitor.outbox]
        self._monitor.outbox.clear()
        return made

    def _roll_back(self, key: bytes, value: bytes) -> None:
        self._monitor.outbox.append((MODELS, key, value))
        self.receive([Message(MODELS.name, 0, 0, self._clock.now_ms(), key, value)])
