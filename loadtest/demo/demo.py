"""`make demo`: the whole system, from an empty directory to live decisions.

The world's history ends a year ago. The live stream continues it many times faster than the clock,
so that days pass and labels come back while people watch, and no event lies in the future.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from devstack.child import Child
from devstack.stack import Stack
from loadtest.demo.front import Front
from loadtest.demo.view import DemoDetails
from loadtest.deploy.challenger import Challenger
from loadtest.deploy.deployment import Deployment, Services, empty_directory, place_on
from loadtest.deploy.exposition import read_metrics, stage_costs
from loadtest.deploy.interrupt import Interrupt
from loadtest.deploy.model import bootstrap_command, publish
from loadtest.deploy.processes import Meter
from loadtest.measure import report
from loadtest.measure.measured_run import SECOND_ANSWERS_S, dead_letters, raise_if_dead
from loadtest.measure.view import RunView
from loadtest.measure.watch import RunWatch
from loadtest.traffic.feed import FeedSettings
from loadtest.traffic.sender import Order
from loadtest.traffic.traffic import Traffic
from loadtest.world.world import date_of
from schemas.errors import FatalError

HISTORY_DAYS: Final = 45
WARM_DAYS: Final = 37
"""Days that the features look back on: the longest window plus the delay of labels."""
YEAR_DAYS: Final = 365
FRAUD_FACTOR: Final = 4.0
"""More fraud than in reality, so that there is something to see."""
WAVE_DAYS: Final = 8
"""Days between waves of fraud, which are three or four minutes at the default rate."""
MODEL: Final = "demo"
MAX_STEP_S: Final = 300.0
"""Time limit for generating the history, and for training the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """Settings of the demo; `seconds` None runs until Ctrl-C, `today` is a day number."""

    directory: Path
    rate: float
    seconds: float | None
    customers: int
    seed: int
    today: int
    new_pattern_day: int | None = None
    """Day of the live stream (0 is its first) on which a new fraud appears."""

    @property
    def live_day(self) -> int:
        """The first day of the live stream."""
        return self.today - YEAR_DAYS


def run(demo: Demo, watch: RunWatch, view: RunView, details: DemoDetails) -> dict[str, Any]:
    """Run the demo to its end or until Ctrl-C, and return the report.

    Raises:
        ConfigurationError: another demo is running, or a program is missing.
        FatalError: one of the processes ended; the text says where its log is.
    """
    began = time.monotonic()
    empty_directory(demo.directory)
    stack = Stack(demo.directory / "stack")
    generator = _generator(demo, stack.data_dir / "logs")
    trainer = _trainer(demo, stack.data_dir / "logs")
    view.say("generating history; starting Kafka and Redis")
    try:
        generator.start()
        with stack:
            place = place_on(stack)
            live = demo.live_day
            feed = FeedSettings(
                customers=demo.customers,
                seed=demo.seed,
                first_day=live - WARM_DAYS,
                new_pattern_day=_pattern(demo),
                fraud_factor=FRAUD_FACTOR,
                wave_every=WAVE_DAYS,
            )
            with (
                Services(place) as services,
                Front(place, demo.directory, services.ports()) as front,
                Traffic(feed, place.settings, watch.note) as traffic,
            ):
                services.start()
                details.follow(services.ports())

                def show() -> bool:
                    raise_if_dead(services, place)
                    raise_if_dead(front, place)
                    return view.tick(traffic)

                _await(generator, demo.directory / "history.json", show, traffic)
                trainer.start()
                view.say(f"training a model; meanwhile the last {WARM_DAYS} days fill the features")
                traffic.run(Order(count=_warm_rows(demo)), show)
                _await(trainer, demo.directory / "models" / MODEL / "manifest.json", show, traffic)
                publish(place.settings, demo.directory / "models" / MODEL)
                traffic.drain(60.0, show)
                services.await_model(MODEL)
                view.say("starting gateway, decision store, monitor and dashboard")
                front.prepare()
                front.start()
                front.wait_ready()
                view.say(front.invitation())
                view.say(f"live: {demo.rate:,.0f} transactions a second; press Ctrl-C to end")
                pids = {**place.pids, **services.pids(), **front.pids(), **traffic.pids()}
                with Challenger(
                    demo.directory / "history.parquet",
                    demo.directory / "models",
                    place.settings,
                    stack.data_dir / "logs" / "challenger.log",
                    view.say,
                ) as challenger:
                    found = _live(demo, place, services, traffic, pids, show, challenger)
                first = traffic.ledger.first_answer()
                return found | {
                    "first_decision_s": None if first is None else round(first / 1e9 - began, 1),
                    "ready_s": round(found.pop("live_at") - began, 1),
                }
    finally:
        generator.stop()
        trainer.stop()


def _live(
    demo: Demo,
    place: Deployment,
    services: Services,
    traffic: Traffic,
    pids: Mapping[str, int],
    show: Callable[[], bool],
    challenger: Challenger,
) -> dict[str, Any]:
    def tick() -> bool:
        challenger.step()
        return show() and not stop

    with Interrupt() as stop:
        traffic.ledger.forget_mix()
        traffic.begin(Order(rate=demo.rate, seconds=demo.seconds), show)
        live_at = time.monotonic()
        meter = Meter(pids)
        before = read_metrics(services.ports())
        phase = traffic.finish(tick)
        traffic.drain(tick=show)
        processes = meter.read()
        costs = stage_costs(before, read_metrics(services.ports()))
        last_answer = traffic.last_answer
        traffic.listen(SECOND_ANSWERS_S, show)
        return report.build(
            "demo",
            traffic.ledger,
            phase,
            last_answer=last_answer,
            costs=costs,
            processes=processes,
            dead_letters=dead_letters(place),
            extra={"live_at": live_at, "interrupted": bool(stop), "model": MODEL},
        )


def _pattern(demo: Demo) -> int | None:
    return None if demo.new_pattern_day is None else demo.live_day + demo.new_pattern_day


def _generator(demo: Demo, logs: Path) -> Child:
    first = demo.live_day - HISTORY_DAYS
    command = [
        sys.executable, "-m", "loadtest", "generate", "--days", str(HISTORY_DAYS),
        "--customers", str(demo.customers), "--seed", str(demo.seed),
        "--first-day", date_of(first), "--output", str(demo.directory / "history.parquet"),
        "--fraud-factor", str(FRAUD_FACTOR), "--json", str(demo.directory / "history.json"),
    ]  # fmt: skip
    return Child("generator", command, logs / "generator.log")


def _trainer(demo: Demo, logs: Path) -> Child:
    command = bootstrap_command(
        demo.directory / "history.parquet", demo.directory / "models", MODEL
    )
    return Child("trainer", command, logs / "trainer.log")


def _warm_rows(demo: Demo) -> int:
    """Return the number of transactions in the last WARM_DAYS days of the history."""
    rows: list[int] = json.loads((demo.directory / "history.json").read_text())["rows_by_day"]
    return sum(rows[-WARM_DAYS:])


def _await(child: Child, result: Path, show: Callable[[], bool], traffic: Traffic) -> None:
    """Wait for a process that writes the file `result`, and keep the view going."""
    deadline = time.monotonic() + MAX_STEP_S
    while child.running:
        if time.monotonic() > deadline:
            raise FatalError(f"the {child.name} took longer than {MAX_STEP_S:.0f} s")
        traffic.pump()
        show()
    if not result.exists():
        raise FatalError(f"the {child.name} failed; {child.log_tail()}")
