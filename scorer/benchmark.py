"""Benchmark of the scorer's own work, without Kafka.

Sample vectors are decoded, scored, judged and encoded on one thread, exactly as in the service.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle
from typing import Any, Final

import numpy as np

from schemas.codec.samples import sample_vectors
from schemas.codec.vectors import decode_feature_vectors
from scorer.decision.decide import Serving, decide
from scorer.model.bundle import Model

SIZES: Final = (1, 8, 32, 64, 128, 500, 2000)
SHADOW_SIZES: Final = (1, 8, 64, 1000)
REPEAT_S: Final = 1.0
"""How long each measurement is repeated."""


def measure(serving: Serving, sizes: Sequence[int] = SIZES) -> dict[str, Any]:
    """Return, for each batch size, the p50 and p99 in ms and the decisions per second."""
    encoded = sample_vectors(2 * max(sizes))
    found: dict[str, Any] = {"batches": [_batches(serving, encoded, size) for size in sizes]}
    if serving.champion is not None:
        found["parts_us_per_row"] = {
            str(size): _parts(serving, serving.champion, encoded, size) for size in (1, 500)
        }
    return found


def measure_shadows(
    serving: Serving, shadows: Sequence[Model], sizes: Sequence[int] = SHADOW_SIZES
) -> list[dict[str, Any]]:
    """Return the cost of `shadows` for each batch size.

    A batch's median CPU time in ms is measured without and with them, alternately; `ratio` is the
    quotient.
    """
    encoded = sample_vectors(2 * max(sizes))
    watched = replace(serving, shadows=tuple(shadows))
    found = []
    for size in sizes:
        begin = _windows(encoded, size)
        took: dict[bool, list[float]] = {False: [], True: []}

        def turn(
            size: int = size,
            begin: Callable[[], int] = begin,
            took: dict[bool, list[float]] = took,
        ) -> None:
            for shadowed, each in ((False, serving), (True, watched)):
                at = begin()
                began = time.thread_time()
                decide(decode_feature_vectors(encoded[at : at + size]), each, 0)
                took[shadowed].append(time.thread_time() - began)

        _repeat(turn, 2 * REPEAT_S)
        alone, beside = (float(np.median(took[shadowed])) * 1e3 for shadowed in (False, True))
        found.append(
            {
                "rows": size,
                "cpu_ms": round(alone, 4),
                "cpu_with_shadows_ms": round(beside, 4),
                "ratio": round(beside / alone, 3),
            }
        )
    return found


def _windows(encoded: list[bytes], size: int) -> Callable[[], int]:
    """Return a function that moves to other rows at each call: a branch predictor learns them."""
    starts = cycle(range(0, len(encoded) - size + 1, size))
    return lambda: next(starts)


def _batches(serving: Serving, encoded: list[bytes], size: int) -> dict[str, Any]:
    begin = _windows(encoded, size)
    flagged = 0

    def once() -> None:
        nonlocal flagged
        at = begin()
        decided = decide(decode_feature_vectors(encoded[at : at + size]), serving, 0)
        flagged += int((decided.action > 0).sum())

    cpu = time.thread_time()
    took = _repeat(once)
    cpu = time.thread_time() - cpu
    p50, p99 = np.percentile(took, [50, 99]) * 1e3
    return {
        "rows": size,
        "p50_ms": round(float(p50), 4),
        "p99_ms": round(float(p99), 4),
        "per_s": round(size * 1e3 / float(p50)),
        "cpu_us_per_row": round(cpu * 1e6 / size / (len(took) + 1), 3),
        "not_approved": round(flagged / size / len(took), 4),
    }


def _parts(serving: Serving, model: Model, encoded: list[bytes], size: int) -> dict[str, float]:
    vectors = decode_feature_vectors(encoded)
    inputs = model.inputs(vectors.matrix)
    places = np.arange(size)
    begin = _windows(encoded, size)

    def us(part: Callable[[int], object]) -> float:
        return _us_per_row(lambda: part(begin()), size)

    return {
        "decode": us(lambda at: decode_feature_vectors(encoded[at : at + size])),
        "anomaly": us(lambda at: model.inputs(vectors.matrix[at : at + size])),
        "model": us(lambda at: model.score(inputs[at : at + size])),
        "decide, all of it": us(lambda at: decide(vectors.take(places + at), serving, 0)),
        "contributions": us(lambda at: model.contributions(inputs[at : at + size])),
    }


def _us_per_row(part: Callable[[], object], rows: int) -> float:
    return round(float(np.median(_repeat(part, REPEAT_S / 4))) * 1e6 / rows, 3)


def _repeat(part: Callable[[], object], seconds: float = REPEAT_S) -> list[float]:
    part()
    took: list[float] = []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end or len(took) < 10:
        part()
        took.append(time.perf_counter() - began)
    return took
