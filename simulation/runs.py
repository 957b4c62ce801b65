"""A whole simulation: world, history, the run with learning and the same without."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from simulation import story
from simulation.learning_loop import LearningLoop
from simulation.simulated_world import generate
from simulation.simulation_plan import SimulationPlan

Progress = Callable[[str, float], None]


def simulate(
    plan: SimulationPlan,
    folder: Path,
    *,
    learning: bool = True,
    alone: bool = False,
    progress: Progress = lambda part, days: None,
) -> dict[str, Any]:
    """Run a plan in an empty folder and return the report. Blocks for minutes.

    With `learning`, unless `alone`, the same world is played again without learning; that report
    stands under `without_learning`. `progress` gets the name of each part and its days done.

    Raises:
        ConfigurationError: the world is too small for a first model.
    """
    began = time.perf_counter()
    progress("world", 0.0)
    world = generate(plan)
    first, events, seconds = None, None, {"world": time.perf_counter() - began}
    for on in (True, False) if learning and not alone else (learning,):
        part = "learning" if on else "without learning"
        progress("history", 0.0)
        since = time.perf_counter()
        loop = LearningLoop(
            plan, world, folder, learning=on, champion=events,
            progress=lambda days, part=part: progress(part, days),  # type: ignore[misc]
        )  # fmt: skip
        events = loop.history()[:2]
        loop.run()
        seconds[part] = time.perf_counter() - since
        found = story.report(loop)
        first = {**first, "without_learning": found} if first is not None else found
    return {
        "scenario": plan.scenario.value,
        "plan": {
            name: value
            for name, value in asdict(plan).items()
            if isinstance(value, int | float | str)
        },
        "transactions": len(world),
        **(first or {}),
        "runtime": {
            **{name: round(value, 1) for name, value in seconds.items()},
            "seconds": round(time.perf_counter() - began, 1),
        },
    }
