"""Measures the monitor's speed on one core and its memory, with synthetic messages and no Kafka.

Each transaction is a FeatureVector message (70 features), its Decision (score and anomaly score)
and, for one in fifty, a later Label. All messages pass through `Monitor.receive` and `Monitor.due`.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from monitor.observe.served_models import ServedModels
from monitor.service import Monitor, MonitorOptions
from runtime.clock import ManualClock
from runtime.kafka.protocols import Message
from runtime.metrics import Metrics
from schemas.codec import avro
from schemas.codec.decisions import encode_decisions, explain
from schemas.codec.vectors import decode_feature_vectors
from schemas.currency import CurrencyTable
from schemas.errors import FatalError
from schemas.features import ANOMALY_FEATURE, FINGERPRINT, NAMES, VECTOR_SIZE
from schemas.records import ModelEvent, Stage
from schemas.topics import DECISIONS, FEATURES, LABELS, MODELS

BATCH: Final = 2_000
TEMPLATES: Final = 20
PER_S: Final = 1_000
"""Transactions per second of the monitor's clock."""
LABEL_EVERY: Final = 50
START: Final = 1_700_000_000_000
ID_DIGITS: Final = 12


class _NoRegistry:
    """The champion has no canary and no predecessor, so nothing is rolled back."""

    def change(self, model_id: str, stage: Stage, *, actor: str, comment: str) -> object:
        raise FatalError(
            f"the benchmark's guard unexpectedly moved {model_id} to {stage}: {comment}"
        )


def measure(total: int, progress: Callable[[int], None] = lambda count: None) -> dict[str, Any]:
    """Return the decisions/s of one thread with all 71 features watched, and the memory used."""
    clock = ManualClock(START)
    models = ServedModels(load=lambda event: _histograms())
    monitor = Monitor(
        MonitorOptions(),
        clock=clock,
        metrics=Metrics("monitor"),
        currencies=CurrencyTable(),
        models=models,
        registry=_NoRegistry(),
    )
    event: ModelEvent = {
        "model_id": "champion", "stage": "CHAMPION", "canary_share": None, "artefact_uri": "",
        "sha256": "", "fingerprint": FINGERPRINT, "metrics": {}, "occurred_at": START,
        "actor": "bench", "comment": None,
    }  # fmt: skip
    value = avro.encode("ModelEvent", event)
    monitor.receive(MODELS.name, [Message(MODELS.name, 0, 0, START, b"champion", value)])
    vectors, decisions = _templates(min(TEMPLATES, total // BATCH))
    _pass(
        monitor, clock, vectors[0], decisions[0], 0
    )  # compiles the kernels and touches every page of memory
    start_rss, spent, done, number = _rss(), 0.0, 0, BATCH
    while done < total:
        place = number // BATCH % len(vectors)
        spent += _pass(monitor, clock, vectors[place], decisions[place], number)
        number += BATCH
        done += BATCH
        progress(BATCH)
    return {
        "decisions": done,
        "seconds": round(spent, 3),
        "decisions_per_s": round(done / spent),
        "us_per_decision": round(spent / done * 1e6, 3),
        "features_watched": len(NAMES) + 1,
        "state_bytes": monitor.seen.nbytes,
        "rss_start_bytes": start_rss,
        "rss_end_bytes": _rss(),
        "join": monitor.seen.quality.counters(),
    }


def _pass(
    monitor: Monitor, clock: ManualClock, vectors: list[bytes], decisions: list[bytes], first: int
) -> float:
    """Run one batch through the monitor; return its CPU seconds, without those of building it."""
    now = clock.now_ms()
    names = [b"%0*d" % (ID_DIGITS, first + row) for row in range(BATCH)]
    blank = b"#" * ID_DIGITS
    pairs = zip(vectors, decisions, names, strict=True)
    named = [(vector.replace(blank, name), decision.replace(blank, name))
             for vector, decision, name in pairs]  # fmt: skip
    labels = [_label(max(first - 50_000, 0) + row, now) for row in range(0, BATCH, LABEL_EVERY)]
    fed = [
        (FEATURES.name, [vector for vector, _ in named]),
        (DECISIONS.name, [decision for _, decision in named]),
        (LABELS.name, labels),
    ]
    ready = [(topic, _messages(topic, values, now)) for topic, values in fed]
    began = time.process_time()
    for topic, messages in ready:
        monitor.receive(topic, messages)
    clock.advance(BATCH * 1000 // PER_S)
    monitor.due()
    monitor.outbox.clear()
    return time.process_time() - began


def _templates(count: int) -> tuple[list[list[bytes]], list[list[bytes]]]:
    """Return `count` batches of FeatureVector and Decision messages with a blank transaction id."""
    draw = np.random.default_rng(7)
    vectors, decisions = [], []
    for _ in range(count):
        matrix = draw.lognormal(1.0, 1.0, (BATCH, VECTOR_SIZE)).astype("<f4")
        matrix[draw.random(matrix.shape) < 0.1] = np.nan
        batch = [
            avro.encode("FeatureVector", _vector(row, values.tobytes()))
            for row, values in enumerate(matrix)
        ]
        score = draw.beta(0.1, 5.0, BATCH)
        action = (score > 0.75).astype(np.uint8) + (score > 0.95).astype(np.uint8)
        reason = explain(reasons=[{"code": "amount", "text": "amount is high", "contribution": 2}])
        decisions.append(
            encode_decisions(
                decode_feature_vectors(batch),
                action=action,
                score=score,
                anomaly=draw.random(BATCH),
                model=np.zeros(BATCH, np.int64),
                model_ids=["champion"],
                role=np.ones(BATCH, np.uint8),
                policy_version="1",
                explanations=dict.fromkeys(np.flatnonzero(action).tolist(), reason),
                decided_at=START * 1000,
            )
        )
        vectors.append(batch)
    return vectors, decisions


def _vector(row: int, values: bytes) -> Mapping[str, Any]:
    return {
        "source_partition": row % 4, "source_offset": row, "received_at": START,
        "computed_at": START * 1000, "duplicate": False, "late": False,
        "fingerprint": FINGERPRINT, "vector": values,
        "transaction": {
            "transaction_id": "#" * ID_DIGITS, "event_time": START, "card_id": f"card-{row}",
            "merchant_id": "merchant", "amount": 1_000, "currency": "EUR", "channel": "ECOM",
            "attributes": {},
        },
    }  # fmt: skip


def _label(number: int, now: int) -> bytes:
    return avro.encode(
        "Label",
        {
            "transaction_id": f"{number:0{ID_DIGITS}d}", "card_id": "card",
            "label": "FRAUD" if number % 3 else "GENUINE", "transaction_time": START,
            "label_time": now,
        },
    )  # fmt: skip


def _histograms() -> dict[str, dict[str, Any]]:
    edges = np.exp(np.linspace(-1.0, 3.0, 9)).tolist()
    features = {"edges": edges, "counts": [100] * 10, "missing": 100}
    share = {"edges": np.linspace(0.1, 0.9, 9).tolist(), "counts": [100] * 10, "missing": 0}
    return dict.fromkeys(NAMES, features) | {ANOMALY_FEATURE: share, "score": share}


def _messages(topic: str, values: list[bytes], now: int) -> list[Message]:
    return [Message(topic, 0, row, now, None, value) for row, value in enumerate(values)]


def _rss() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
