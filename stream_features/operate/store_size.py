"""Measures how much memory the entities take in Redis, by kind.

Sizes are those of Redis' MEMORY USAGE, with key and overhead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from runtime.feature_store.protocol import FeatureStore
from schemas.keys import KEY_LETTER
from stream_features.engine.state.blob import card_events, is_seen_once
from stream_features.engine.state.blob_check import fault_of
from stream_features.engine.state.entities import new_tables

USUAL: Final = range(55, 66)
"""The numbers of events that count as about 60."""


def store_size(
    store: FeatureStore, progress: Callable[[int], None] = lambda seen: None
) -> dict[str, dict[str, Any]]:
    """Return for each kind the number of entities and their mean and largest size in bytes.

    `damaged` counts the values that cannot be read; they are left out of the sizes.
    The sizes are also given for entities with a single event, and for cards with about 60 events;
    they are None if there are none such. Reads the whole store and blocks. `progress` is called
    with the number of entities read since the last call.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    report: dict[str, dict[str, Any]] = {}
    tables = new_tables()
    for kind in KEY_LETTER:
        damaged = 0
        sizes: list[int] = []
        once: list[int] = []
        usual: list[int] = []
        for piece in store.entities(kind):
            values = store.load([key for key, _ in piece])
            for (_, size), value in zip(piece, values, strict=True):
                if value is None:
                    continue
                if fault_of(getattr(tables, kind), value):
                    damaged += 1
                    continue
                sizes.append(size)
                if is_seen_once(kind, value):
                    once.append(size)
                if kind == "card" and card_events(value) in USUAL:
                    usual.append(size)
            progress(len(piece))
        report[kind] = {"entities": len(sizes), "damaged": damaged}
        report[kind] |= _summary("", sizes) | _summary("once_", once)
        if kind == "card":
            report[kind] |= _summary("about_60_events_", usual)
    return report


def _summary(name: str, sizes: list[int]) -> dict[str, float | int | None]:
    mean = round(float(np.mean(sizes)), 1) if sizes else None
    return {f"{name}mean_bytes": mean, f"{name}max_bytes": max(sizes, default=None)}
