"""Searches for the highest rate at which p99 stays within a bound: ramp up, then bisect."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from loadtest.deploy.deployment import Deployment, Services, deploy
from loadtest.deploy.exposition import Series, read_metrics, stage_costs
from loadtest.deploy.interrupt import Interrupt
from loadtest.deploy.model import publish
from loadtest.deploy.processes import Meter
from loadtest.measure import limit, report
from loadtest.measure.latency import percentiles_ms
from loadtest.measure.measured_run import (
    SECOND_ANSWERS_S,
    RunPlan,
    dead_letters,
    model_for,
    raise_if_dead,
)
from loadtest.measure.view import RunView
from loadtest.measure.watch import RunWatch
from loadtest.traffic.sender import Order
from loadtest.traffic.traffic import Phase, Traffic

GROWTH: Final = 1.6
FINE: Final = 1.08
"""The bisection ends when the lowest rate not held is within this factor of the highest held."""
BACK_OFF: Final = 0.93
"""Share of a rate to try next if a short try held it but a long one did not."""
LASTING: Final = 0.97
"""Share of the answers per second of a failed long try that will probably last."""
MIN_STEP_DOWN: Final = 0.5
"""After a failed long try the rate falls at most to this share."""
GIVE_UP_S: Final = 2.0
"""A try ends early when this many seconds of its load wait for answers."""


class Try(NamedTuple):
    """One rate, tried for some seconds."""

    rate: float
    seconds: float
    held: bool
    p99_ms: float | None
    answered_per_s: float = 0.0
    """Answers a second while the load was being sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateSearch:
    """Settings of the search.

    The result must hold for `hold_s` with p99 of at most `p99_ms`. Short tries last `try_s`. After
    `budget_s` only one more long try begins.
    """

    p99_ms: float = 50.0
    hold_s: float = 30.0
    try_s: float = 6.0
    first_rate: float = 2_000.0
    budget_s: float = 300.0


def find(
    search: RateSearch, attempt: Callable[[float, float], Try], clock: Callable[[], float]
) -> Try:
    """Return the first long try that was held, or the last one if none was.

    `attempt(rate, seconds)` makes a try; `clock` returns seconds.
    """
    began = clock()
    low, high = 0.0, float("inf")
    rate = search.first_rate
    while clock() - began < search.budget_s:
        done = attempt(rate, search.try_s)
        if done.held:
            low = rate
        else:
            high = rate
        if high == float("inf"):
            rate = low * GROWTH
        elif high / max(low, 1.0) <= FINE or high < 50:
            break
        else:
            rate = (low * high) ** 0.5 if low else high / 2
    rate = max(low, 1.0)
    while True:
        done = attempt(rate, search.hold_s)
        if done.held or clock() - began > search.budget_s:
            return done
        # The answers per second of the failed try are about the rate that lasts. Go a little below
        # it, so that no backlog grows from one long try to the next.
        rate = min(rate * BACK_OFF, max(done.answered_per_s * LASTING, rate * MIN_STEP_DOWN))


def run(
    plan: RunPlan, search: RateSearch, watch: RunWatch, view: RunView, *, with_limit: int
) -> dict[str, Any]:
    """Return the report of the rate that was held, with all tries.

    If `with_limit` is not 0, the bare echo then carries so many transactions on the same Kafka,
    without the services, and its report is added.
    """
    model = model_for(plan, view)
    view.say("starting Kafka and Redis" if plan.target.bootstrap is None else "connecting")
    with deploy(plan.target) as place:
        model_id = None if model is None else publish(place.settings, model)
        with Services(place, workers=plan.workers, scorers=plan.scorers) as services:
            found = _search(plan, search, watch, view, place, services, model_id)
        if with_limit:
            bare = limit.measure(place, plan.feed, watch, view, count=with_limit)
            ratio = round(found["throughput_per_s"] / bare["throughput_per_s"], 4)
            found |= {"limit": bare, "ratio_to_limit": ratio}
        return found


def _search(
    plan: RunPlan,
    search: RateSearch,
    watch: RunWatch,
    view: RunView,
    place: Deployment,
    services: Services,
    model_id: str | None,
) -> dict[str, Any]:
    if plan.start_services:
        view.say("starting the services")
        services.start()
        services.wait_ready()
        if model_id is not None:
            services.await_model(model_id)
    with Traffic(plan.feed, place.settings, watch.note) as traffic, Interrupt() as stop:
        ladder = _Ladder(plan, search, view, place, services, traffic, stop)
        warm = Order(rate=search.first_rate, seconds=plan.warm_up_s)
        view.say(f"warm-up of {plan.warm_up_s:g} s")
        traffic.run(warm, ladder.show)
        traffic.drain(tick=ladder.show)
        held = find(search, ladder.attempt, time.monotonic)
        traffic.listen(SECOND_ANSWERS_S, ladder.show)
        found = report.build(
            "max",
            traffic.ledger,
            ladder.phase,
            last_answer=ladder.last_answer,
            costs=ladder.costs,
            processes=ladder.processes,
            dead_letters=dead_letters(place),
            extra={
                "held": held.held,
                "model": model_id,
                "p99_bound_ms": search.p99_ms,
                "hold_s": search.hold_s,
                "tries": [each._asdict() for each in ladder.tries],
                "workers": plan.workers,
                "scorers": plan.scorers,
                "partitions": plan.target.partitions,
            },
        )
        return found if held.held else found | {"throughput_per_s": 0.0}


class _Ladder:
    """Tries one rate after the other, and keeps the figures of the last one."""

    def __init__(
        self,
        plan: RunPlan,
        search: RateSearch,
        view: RunView,
        place: Deployment,
        services: Services,
        traffic: Traffic,
        stop: Interrupt,
    ) -> None:
        self._plan = plan
        self._search = search
        self._view = view
        self._place = place
        self._services = services
        self._traffic = traffic
        self._stop = stop
        self._rate = 0.0
        self.tries: list[Try] = []
        self.phase: Phase
        self.last_answer = 0
        self.costs: list[Any] = []
        self.processes: dict[str, dict[str, float]] = {}

    def attempt(self, rate: float, seconds: float) -> Try:
        """Send at a rate; it is held if everything is answered, in time, and nothing piles up."""
        traffic = self._traffic
        if self._stop:
            raise KeyboardInterrupt
        self._rate = rate
        self._view.say(f"{rate:,.0f}/s for {seconds:g} s")
        traffic.begin(replace(self._plan.order, rate=rate, seconds=seconds), self.show)
        pids = self._services.pids() if self._plan.start_services else {}
        meter = Meter({**self._place.pids, **pids, **traffic.pids()})
        before = self._metrics()
        self.phase = traffic.finish(self._go_on)
        now = time.monotonic_ns()
        waiting = traffic.ledger.waiting(now)
        sent = self.phase.last - self.phase.first
        answered = max(sent - waiting, 0) / ((now - self.phase.started) / 1e9)
        counts = traffic.drain(tick=self.show)
        self.last_answer = traffic.last_answer
        self.processes = meter.read()
        self.costs = list(stage_costs(before, self._metrics()))
        rows = slice(self.phase.first, self.phase.last)
        p99 = percentiles_ms(traffic.ledger.latency[rows])["p99_ms"]
        whole = sent >= 0.98 * rate * seconds
        in_bounds = p99 is not None and p99 <= self._search.p99_ms
        held = whole and in_bounds and counts.lost == 0 and waiting < rate * GIVE_UP_S
        done = Try(round(rate, 1), seconds, held, p99, round(answered, 1))
        self.tries.append(done)
        return done

    def show(self) -> bool:
        """Update the view; FatalError if a service has ended. Always returns True."""
        raise_if_dead(self._services, self._place)
        return self._view.tick(self._traffic)

    def _go_on(self) -> bool:
        if time.monotonic_ns() - self._traffic.phase.started > GIVE_UP_S * 1e9:
            waiting = self._traffic.ledger.waiting(time.monotonic_ns())
            if waiting > self._rate * GIVE_UP_S:
                return False
        return self.show() and not self._stop

    def _metrics(self) -> dict[Series, float]:
        return read_metrics(self._services.ports()) if self._plan.start_services else {}
