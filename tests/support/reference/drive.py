"""Drive the engine and the reference with the same stream and say where they differ."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.columns import KINDS, TransactionColumns, empty_columns, pack_country, pack_position
from schemas.features import NAMES
from schemas.keys import hash_id, normalise_ip
from stream_features.engine.offline import OfflineEngine
from tests.support.reference.catalogue import CHANNELS, Flags, Reference
from tests.support.reference.streams import Event

Vectors = npt.NDArray[np.float32]
DUPLICATE, LATE = 1, 2
ABSOLUTE = {"card_hour_deviation": 1e-9}
"""Trigonometry of a mean that equals the hour leaves 1e-15 where 0 is meant."""


def columns_of(transactions: Sequence[dict[str, Any]]) -> TransactionColumns:
    """Columns as the decoder would make them."""
    out = empty_columns(len(transactions))
    nan = math.nan
    for row, tx in enumerate(transactions):
        out.time[row] = tx["event_time"]
        out.amount[row] = tx["amount"]
        out.transaction[row] = hash_id(tx["transaction_id"])
        out.card[row] = hash_id(tx["card_id"])
        out.merchant[row] = hash_id(tx["merchant_id"])
        device, ip, mcc = tx.get("device_id"), tx.get("ip"), tx.get("mcc")
        latitude, longitude = tx.get("latitude"), tx.get("longitude")
        out.device[row] = hash_id(device) if device else 0
        out.ip[row] = hash_id(normalise_ip(ip)) if ip else 0
        out.mcc[row] = -1 if mcc is None else mcc
        out.channel[row] = CHANNELS.index(tx.get("channel") or "OTHER")
        out.kind[row] = KINDS.index(tx.get("kind") or "PURCHASE")
        out.position[row] = pack_position(
            np.array([nan if latitude is None else latitude]),
            np.array([nan if longitude is None else longitude]),
        )[0]
        for field in ("card_country", "merchant_country", "ip_country"):
            getattr(out, field)[row] = pack_country(tx.get(field))
    return out


def engine_run(
    engine: OfflineEngine, events: Iterable[Event]
) -> tuple[Vectors, npt.NDArray[np.uint8]]:
    """Vectors and flags of the transactions, labels applied where they stand."""
    vectors, flags = [np.empty((0, len(NAMES)), np.float32)], [np.empty(0, np.uint8)]
    for labels, group in groupby(events, key=lambda event: "label" in event):
        batch = [next(iter(event.values())) for event in group]
        if labels:
            engine.apply_labels(
                np.array([hash_id(label["card_id"]) for label in batch], np.uint64),
                np.array([hash_id(label["transaction_id"]) for label in batch], np.uint64),
                np.array([label["transaction_time"] for label in batch], np.int64),
                np.array([label["fraud"] for label in batch], np.bool_),
            )
        else:
            some_vectors, some_flags = engine.process(columns_of(batch))
            vectors.append(some_vectors)
            flags.append(some_flags)
    return np.concatenate(vectors), np.concatenate(flags)


def reference_run(
    reference: Reference, events: Iterable[Event]
) -> tuple[npt.NDArray[np.float64], list[Flags]]:
    """The same by the reference, in float64."""
    vectors, flags = [], []
    for event in events:
        if "label" in event:
            label = event["label"]
            reference.label(label["card_id"], label["transaction_id"], label["fraud"])
        else:
            vector, flag = reference.transaction(event["transaction"])
            vectors.append(vector)
            flags.append(flag)
    return np.array(vectors, np.float64).reshape(-1, len(NAMES)), flags


def close(got: Vectors, expected: npt.NDArray[np.float64], ulp: int = 2) -> npt.NDArray[np.bool_]:
    """Whether each value equals the expected one within `ulp` float32 steps; NaN equals NaN."""
    rounded = expected.astype(np.float32)
    with np.errstate(invalid="ignore"):
        far = np.abs(got.astype(np.float64) - rounded)
        allowed = ulp * np.spacing(np.abs(rounded)).astype(np.float64)
        allowed += np.array([ABSOLUTE.get(name, 0.0) for name in NAMES])
        equal: npt.NDArray[np.bool_] = (far <= allowed) | (np.isnan(got) & np.isnan(rounded))
    return equal


def differences(events: Sequence[Event], label_delay_ms: int, **limits: int) -> list[str]:
    """Say every difference between the engine and the reference over `events`."""
    got, flags = engine_run(OfflineEngine(label_delay_ms=label_delay_ms, **limits), events)
    expected, said = reference_run(Reference(label_delay_ms), events)
    transactions = [event["transaction"] for event in events if "transaction" in event]
    out = []
    for row, column in np.argwhere(~close(got, expected)):
        kind = "duplicate" if said[row]["duplicate"] else "row"
        out.append(
            f"{kind} {row} ({transactions[row]['transaction_id']}) {NAMES[column]}: "
            f"engine {got[row, column]!r}, reference {expected[row, column]!r}"
        )
    for row, flag in enumerate(said):
        wanted = DUPLICATE * flag["duplicate"] | LATE * flag["late"]
        if flags[row] != wanted:
            out.append(f"row {row} flags: engine {flags[row]}, reference {wanted}")
    return out


def bracket(events: Sequence[Event], label_delay_ms: int) -> list[npt.NDArray[np.float64]]:
    """Vectors with every window W shortened and lengthened by W/24."""
    return [
        reference_run(Reference(label_delay_ms, stretch=Fraction(n, 24)), events)[0]
        for n in (23, 25)
    ]
