"""Model swaps in mid-run, and what they do to latency. Used by run.py."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from loadtest.deploy.model import put
from loadtest.traffic.ledger import Ledger
from loadtest.traffic.traffic import Phase
from runtime.kafka.model_registry import ModelRegistry, open_registry
from runtime.settings import Settings
from schemas.keys import hash_id

SECOND_NS: Final = 1_000_000_000
STEP_NS: Final = 100_000_000
LOAD_NS: Final = 5 * SECOND_NS
"""If no decision names the new model, its loading is looked for in this time."""
SETTLE_S: Final = 2.0
"""Left of a warm-up after its last swap."""
PUBLISH_S: Final = 60.0
"""How long the last change may take after the run."""


class Swap(NamedTuple):
    """Make the bundles of `models` champion one after the other, `times` times, every `every_s`
    seconds from `at_s` seconds after the start on."""

    at_s: float
    models: tuple[Path, ...]
    times: int = 1
    every_s: float = 2.0


class Swapped(NamedTuple):
    """One swap: the change was begun at `published` (ns, monotonic), and decisions named the model
    from `applied` on, None if none did."""

    model_id: str
    published: int
    applied: int | None


def rehearsal(swap: Swap, warm_up_s: float) -> Swap:
    """Return the swaps to make in a warm-up: as many as measured, as far as they fit in, after
    which the last of the models is the champion, as before.

    A broker that has written no transaction compiles its whole way of writing anew at the first
    ones: for some four seconds on two cores. One that has been up for a day is past that.
    """
    models = len(swap.models)
    wanted = -(-swap.times // models)
    fitting = int((warm_up_s - SETTLE_S) / swap.every_s) // models
    return Swap(0.0, swap.models, max(min(wanted, fitting), 0) * models, swap.every_s)


class Swapper:
    """Makes each change when its time has come, on a thread of its own. Context manager."""

    def __init__(self, settings: Settings) -> None:
        self._swap: Swap | None = None
        self._settings = settings
        self._begun: list[tuple[int, Future[str]]] = []
        self._thread = ThreadPoolExecutor(1, "swap")
        self._registry: ModelRegistry | None = None
        self._opened = ExitStack()

    def plan(self, swap: Swap) -> None:
        """Make these changes from now on; those made before are forgotten.

        Raises:
            FraudError: one of them could not be made.
        """
        self.swapped(())
        self._swap = swap
        self._begun = []

    def tick(self, started: int, now: int) -> None:
        """Begin a change if it is time: `started` and `now` in ns, monotonic.

        Raises:
            FraudError: an earlier change could not be made.
        """
        for _, change in self._begun:
            if change.done():
                change.result()
        if self._swap is None:
            return
        number = len(self._begun)
        due = started + int((self._swap.at_s + number * self._swap.every_s) * SECOND_NS)
        if number < self._swap.times and started and now >= due:
            model = self._swap.models[number % len(self._swap.models)]
            self._begun.append((now, self._thread.submit(self._change, model)))

    def swapped(self, seen: Sequence[tuple[int, int]]) -> list[Swapped]:
        """Return the swaps; `seen` is when decisions of which model (its hash) were first seen."""
        found = []
        for published, change in self._begun:
            model_id = change.result(PUBLISH_S)
            model = hash_id(model_id)
            applied = next((at for at, name in seen if at > published and name == model), None)
            found.append(Swapped(model_id, published, applied))
        return found

    def __enter__(self) -> Swapper:
        """Nothing is changed yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the change under way and let go of the registry."""
        self._thread.shutdown(cancel_futures=True)
        self._opened.close()

    def _change(self, model: Path) -> str:
        if self._registry is None:
            self._registry = self._opened.enter_context(open_registry(self._settings))
        return put(self._registry, model)


def p99_ms(latency: npt.NDArray[np.int64]) -> float | None:
    """Return the 99th percentile in ms of latencies in ns; None if there is none."""
    answered = latency[latency >= 0]
    return round(float(np.percentile(answered, 99)) / 1e6, 3) if len(answered) else None


def effect(ledger: Ledger, phase: Phase, swaps: Sequence[Swapped]) -> dict[str, Any]:
    """Return p99 before the first of `swaps` (at least one), in the worst second of each, and after
    the last; and p99 over all the time from the first to the last, as one.

    A new model is fetched and loaded after `published` and decides from `applied` on; the worst
    second is looked for from the one until a second after the other.
    """
    rows = slice(phase.first, phase.last)
    due, latency = ledger.due[rows], ledger.latency[rows]
    first, end = swaps[0].published, _end(swaps[-1])
    before = p99_ms(latency[due < first])
    while_swapping = p99_ms(latency[(due >= first) & (due < end)])
    worst = [_worst_ms(due, latency, swap) for swap in swaps]
    known = [each for each in worst if each is not None]
    return {
        "published_s": _seconds(first, phase),
        "applied_s": _seconds(swaps[0].applied, phase),
        "p99_before_ms": before,
        "p99_in_swap_ms": max(known, default=None),
        "p99_while_swapping_ms": while_swapping,
        "p99_after_ms": p99_ms(latency[due >= end]),
        "p99_in_swap_ratio": _ratio(max(known, default=None), before),
        "p99_while_swapping_ratio": _ratio(while_swapping, before),
        "swaps": [
            {
                "model_id": swap.model_id,
                "published_s": _seconds(swap.published, phase),
                "applied_s": _seconds(swap.applied, phase),
                "p99_in_swap_ms": ms,
            }
            for swap, ms in zip(swaps, worst, strict=True)
        ],
        "swaps_applied": sum(swap.applied is not None for swap in swaps),
    }


def _end(swap: Swapped) -> int:
    applied = swap.published + LOAD_NS if swap.applied is None else swap.applied
    return applied + SECOND_NS


def _worst_ms(
    due: npt.NDArray[np.int64], latency: npt.NDArray[np.int64], swap: Swapped
) -> float | None:
    last = max(_end(swap) - SECOND_NS, swap.published)
    seconds = [
        p99_ms(latency[(due >= at) & (due < at + SECOND_NS)])
        for at in range(swap.published, last + 1, STEP_NS)
    ]
    return max((each for each in seconds if each is not None), default=None)


def _ratio(figure: float | None, before: float | None) -> float | None:
    return None if figure is None or before is None else round(figure / before, 3)


def _seconds(at: int | None, phase: Phase) -> float | None:
    return None if at is None else round((at - phase.started) / 1e9, 3)
