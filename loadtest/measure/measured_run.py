"""One measured run of our services under load."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loadtest.deploy.deployment import Deployment, Processes, Services, Target, deploy
from loadtest.deploy.exposition import Series, read_metrics, stage_costs
from loadtest.deploy.interrupt import Interrupt
from loadtest.deploy.model import prepare_model, publish
from loadtest.deploy.processes import Meter
from loadtest.measure import report
from loadtest.measure.recovery import back_to_normal
from loadtest.measure.swap import Swap, Swapper, effect, rehearsal
from loadtest.measure.view import RunView
from loadtest.measure.watch import RunWatch
from loadtest.traffic.feed import FeedSettings
from loadtest.traffic.ledger import Ledger
from loadtest.traffic.sender import Order
from loadtest.traffic.traffic import Phase, Traffic
from runtime.kafka.reader import end_offsets
from schemas.errors import FatalError
from schemas.keys import hash_id
from schemas.topics import DEAD_LETTER

SECOND_ANSWERS_S = 1.0
"""How long to wait for duplicate answers when everything is answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """Settings of a run.

    A warm-up of `warm_up_s` at the order's rate comes before the measurement. If `queued` is not 0,
    the services are then stopped, and so many transactions wait for them when they start again.
    Without a `model` one is trained, unless `no_model` is set. A swap goes through its models and
    back to the first champion, and the warm-up rehearses it.
    """

    target: Target
    feed: FeedSettings
    order: Order
    workers: int = 1
    scorers: int = 1
    start_services: bool = True
    model: Path | None = None
    no_model: bool = False
    queued: int = 0
    warm_up_s: float = 0.0
    swap: Swap | None = None
    shadows: tuple[Path, ...] = ()


def run(plan: RunPlan, watch: RunWatch, view: RunView) -> dict[str, Any]:
    """Start everything, measure, and return the report.

    Ctrl-C ends sending early; the report then covers the transactions sent so far.

    Raises:
        ConfigurationError: something that the run needs is missing.
        FatalError: a service failed.
    """
    model = model_for(plan, view)
    view.say("starting Kafka and Redis" if plan.target.bootstrap is None else "connecting")
    with deploy(plan.target) as place:
        model_id = None
        if model is not None:
            model_id = publish(place.settings, model)
            if plan.swap is not None:
                back = plan.swap._replace(models=(*plan.swap.models, model))
                plan = replace(plan, swap=back)
        shadows = [publish(place.settings, each, "SHADOW") for each in plan.shadows]
        with (
            Services(place, workers=plan.workers, scorers=plan.scorers) as services,
            Traffic(plan.feed, place.settings, watch.note) as traffic,
            ExitStack() as opened,
        ):
            swapper = None
            if plan.swap is not None:
                swapper = opened.enter_context(Swapper(place.settings))
            measurement = Measurement(
                plan, place, services, traffic, view, model_id, shadows, swapper
            )
            return measurement.measure(watch)


def model_for(plan: RunPlan, view: RunView) -> Path | None:
    """Return the bundle that the services should score with; trains one if `plan` names none."""
    if plan.no_model or not plan.start_services:
        return None
    if plan.model is not None:
        return plan.model
    view.say("training a model of the generated world (once, about a minute)")
    return prepare_model(plan.target.data, plan.feed.seed)


class Measurement:
    """One run on a deployment whose topics and models are ready."""

    def __init__(
        self,
        plan: RunPlan,
        place: Deployment,
        services: Services,
        traffic: Traffic,
        view: RunView,
        model_id: str | None,
        shadows: Sequence[str],
        swapper: Swapper | None,
    ) -> None:
        self._plan = plan
        self._place = place
        self._services = services
        self._traffic = traffic
        self._view = view
        self._model_id = model_id
        self._interrupt = Interrupt()
        self._shadows = list(shadows)
        self._swapper = swapper

    def measure(self, watch: RunWatch) -> dict[str, Any]:
        """Start the services, send, wait for the answers, and return the report."""
        plan = self._plan
        if plan.warm_up_s or not plan.queued:
            self._start_services(wait=True)
        started = time.monotonic_ns()
        if plan.queued:
            self._warm_up()
            started = self._queue()
        with Interrupt() as self._interrupt:
            if not plan.queued:
                self._warm_up()
            return self._measure(watch, started)

    def _start_services(self, *, wait: bool) -> None:
        if not self._plan.start_services:
            return
        self._view.say("starting the services")
        self._services.start()
        if wait:
            self._services.wait_ready()
            for model_id in (self._model_id, *self._shadows):
                if model_id is not None:
                    self._services.await_model(model_id)

    def _warm_up(self) -> None:
        plan, traffic = self._plan, self._traffic
        if plan.warm_up_s:
            self._view.say(f"warm-up of {plan.warm_up_s:g} s")
            if self._swapper and self._model_id and plan.swap:
                self._swapper.plan(rehearsal(plan.swap, plan.warm_up_s))
            traffic.run(replace(plan.order, seconds=plan.warm_up_s, count=None), self._tick)
            traffic.drain(tick=self._show)
        if self._swapper and plan.swap:
            self._swapper.plan(plan.swap)
            if self._model_id:
                self._services.await_model(self._model_id)

    def _queue(self) -> int:
        """Queue a backlog while the services are stopped; return when they start again (ns)."""
        plan = self._plan
        self._services.stop()
        self._view.say(f"queueing {plan.queued:,} transactions before the services start")
        self._traffic.run(Order(count=plan.queued), self._show)
        started = time.monotonic_ns()
        self._start_services(wait=False)
        return started

    def _measure(self, watch: RunWatch, services_started: int) -> dict[str, Any]:
        plan, traffic = self._plan, self._traffic
        self._view.say("measuring")
        watch.models.clear()
        traffic.ledger.forget_mix()
        traffic.begin(plan.order, self._show)
        meter = Meter({**self._place.pids, **self._pids(), **traffic.pids()})
        before = self._metrics()
        phase = traffic.finish(self._tick)
        if plan.start_services:
            self._services.wait_ready()  # a short order may be over before they are ready
        traffic.drain(tick=self._show)
        processes = meter.read()
        costs = stage_costs(before, self._metrics())
        last_answer = traffic.last_answer
        traffic.listen(SECOND_ANSWERS_S, self._show)
        return report.build(
            "run",
            traffic.ledger,
            phase,
            last_answer=last_answer,
            costs=costs,
            processes=processes,
            dead_letters=dead_letters(self._place),
            extra=self._extra(phase, watch, services_started),
        )

    def _show(self) -> bool:
        """Update the view; FatalError if a service has ended. Always returns True."""
        raise_if_dead(self._services, self._place)
        return self._view.tick(self._traffic)

    def _tick(self) -> bool:
        """Swap models if it is time, and update the view; False once Ctrl-C has come."""
        phase = self._traffic.phase
        if self._swapper is not None:
            self._swapper.tick(phase.started, time.monotonic_ns())
        return self._show() and not self._interrupt

    def _extra(self, phase: Phase, watch: RunWatch, services_started: int) -> dict[str, Any]:
        plan = self._plan
        extra: dict[str, Any] = {
            "model": self._model_id,
            "workers": plan.workers,
            "scorers": plan.scorers,
            "partitions": plan.target.partitions,
            "queued": plan.queued,
            "warm_up_s": plan.warm_up_s,
            "labels_ahead": self._traffic.labels_ahead,
            "interrupted": bool(self._interrupt),
            "swapped": False,
            "shadows": self._shadows,
        }
        if plan.queued:
            extra |= back_to_normal(self._traffic.ledger, phase, services_started)
        swaps = self._swapper.swapped(watch.models) if self._swapper is not None else []
        if swaps:
            extra |= {"swapped": True, **effect(self._traffic.ledger, phase, swaps)}
        named = [self._model_id, *(swap.model_id for swap in swaps)]
        return extra | by_model(self._traffic.ledger, [name for name in named if name])

    def _pids(self) -> dict[str, int]:
        return self._services.pids() if self._plan.start_services else {}

    def _metrics(self) -> Mapping[Series, float]:
        return read_metrics(self._services.ports()) if self._plan.start_services else {}


def raise_if_dead(services: Processes, place: Deployment) -> None:
    """Raise FatalError if a service that was started has ended."""
    dead = services.dead()
    if dead:
        raise FatalError(f"{', '.join(dead)} ended during the run: see the logs in {place.log_dir}")


def by_model(ledger: Ledger, model_ids: Iterable[str]) -> dict[str, Any]:
    """Return how many decisions name each of `model_ids`, another model, and no model."""
    counts = {name: ledger.models[hash_id(name)] for name in model_ids}
    unnamed = ledger.models[0]
    others = sum(ledger.models.values()) - sum(counts.values()) - unnamed
    return {"decisions_by_model": counts, "by_other_models": others, "by_no_model": unnamed}


def dead_letters(place: Deployment) -> int:
    """Return the number of messages on the dead-letter topic."""
    return sum(end_offsets(place.settings, place.settings.topic(DEAD_LETTER)).values())
