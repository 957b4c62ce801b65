"""A whole simulation: world, history, the run with learning and the same without."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from simulation import story, world
from simulation.loop import Loop
from simulation.plan import Plan

Progress = Callable[[str, float], None]


def simulate(
    plan: Plan,
    folder: Path,
    *,
    learning: bool = True,
    alone: bool = False,
    progress: Progress = lambda part, days: None,
) -> dict[str, Any]:
    """Run a plan in an empty folder and return the report. Blocks for minutes.

    With `learning` and not `alone` the same world is played again without it, and that report
    stands under `without_learning`. `progress` is told the part and the days done of it.

    Raises:
        ConfigurationError: the world is too small for a first model.
        FatalError: generator or monitor failed.
    """
    began = time.perf_counter()
    progress("world", 0.0)
    path = folder / "world.parquet"
    world.generate(plan, path)
    played = world.load(path, plan.seed)
    first, events, seconds = None, None, {"world": time.perf_counter() - began}
    for on in (True, False) if learning and not alone else (learning,):
        part = "learning" if on else "without learning"
        progress("history", 0.0)
        since = time.perf_counter()
        loop = Loop(
            plan, played, folder, learning=on, champion=events,
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
        "transactions": len(played),
        **(first or {}),
        "runtime": {
            **{name: round(value, 1) for name, value in seconds.items()},
            "seconds": round(time.perf_counter() - began, 1),
        },
    }
