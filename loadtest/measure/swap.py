"""Swaps models during a run, and finds what that does to latency."""

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
"""Time allowed for loading a model that no decision names."""
SETTLE_S: Final = 2.0
"""Time left of a warm-up after its last swap."""
PUBLISH_S: Final = 60.0
"""How long the last swap may take after the end of the run."""


class Swap(NamedTuple):
    """Settings of the swaps: the bundles of `models` become champion in turn.

    There are `times` swaps, the first `at_s` seconds after the start, then one every `every_s`.
    """

    at_s: float
    models: tuple[Path, ...]
    times: int = 1
    every_s: float = 2.0


class Swapped(NamedTuple):
    """One swap that was made (times in ns, monotonic).

    `published` is when the change began; `applied` is when the first decision named the model, or
    None if no decision did.
    """

    model_id: str
    published: int
    applied: int | None


def rehearsal(swap: Swap, warm_up_s: float) -> Swap:
    """Return the swaps to make in a warm-up: as many as in the measurement, as far as they fit.

    They are whole rounds through the models, so that the same champion is in force afterwards. A
    freshly started broker compiles its transaction code at the first swaps, for about four seconds
    on two cores; a broker that has been up for a day is past that.
    """
    models = len(swap.models)
    wanted = -(-swap.times // models)
    fitting = int((warm_up_s - SETTLE_S) / swap.every_s) // models
    return Swap(0.0, swap.models, max(min(wanted, fitting), 0) * models, swap.every_s)


class Swapper:
    """Makes each swap when it is due, on a thread of its own; waits for the last one on exit."""

    def __init__(self, settings: Settings) -> None:
        self._swap: Swap | None = None
        self._settings = settings
        self._begun: list[tuple[int, Future[str]]] = []
        self._thread = ThreadPoolExecutor(1, "swap")
        self._registry: ModelRegistry | None = None
        self._opened = ExitStack()

    def plan(self, swap: Swap) -> None:
        """Make these swaps from now on, and forget the earlier ones.

        Raises:
            FraudError: an earlier swap failed.
        """
        self.swapped(())
        self._swap = swap
        self._begun = []

    def tick(self, started: int, now: int) -> None:
        """Begin a swap if one is due; `started` and `now` are in ns, monotonic.

        Raises:
            FraudError: an earlier swap failed.
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
        """Return the swaps that were made.

        `seen` lists when decisions of a model first appeared, and the hash of its id.
        """
        found = []
        for published, change in self._begun:
            model_id = change.result(PUBLISH_S)
            model = hash_id(model_id)
            applied = next((at for at, name in seen if at > published and name == model), None)
            found.append(Swapped(model_id, published, applied))
        return found

    def __enter__(self) -> Swapper:
        """Return itself; `plan` sets the swaps."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the swap under way, and close the registry."""
        self._thread.shutdown(cancel_futures=True)
        self._opened.close()

    def _change(self, model: Path) -> str:
        if self._registry is None:
            self._registry = self._opened.enter_context(open_registry(self._settings))
        return put(self._registry, model)


def p99_ms(latency: npt.NDArray[np.int64]) -> float | None:
    """Return the 99th percentile (ms) of latencies (ns), or None if nothing was answered."""
    answered = latency[latency >= 0]
    return round(float(np.percentile(answered, 99)) / 1e6, 3) if len(answered) else None


def effect(ledger: Ledger, phase: Phase, swaps: Sequence[Swapped]) -> dict[str, Any]:
    """Return p99 before, during and after the swaps, and in the worst second of each.

    `swaps` must not be empty. A new model is fetched and loaded after `published`, and decides from
    `applied` on; the worst second is searched from `published` to a second after `applied`.
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
