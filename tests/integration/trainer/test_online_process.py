"""`python -m trainer online` on real Kafka: learns, publishes a shadow, goes on after a stop."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest

from devstack.service_process import Service
from devstack.stack import Stack
from runtime.kafka.model_registry import open_registry, registration
from runtime.metrics import read_exposition
from schemas.codec import avro
from schemas.features import FINGERPRINT, VECTOR_SIZE
from schemas.topics import FEATURES, LABELS, MODELS
from scorer.model.bundle import load_model
from scorer.serving import bundle_directory
from tests.support.pipeline import Pipeline
from tests.support.scorer.stand_ins import small_bundle
from tests.support.waiting import until

DELAY_MS = 500


class Bench:
    """A champion on Kafka, and transactions of which every tenth is a reported fraud."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.folder = folder
        self.pipeline = Pipeline(
            stack, folder / "logs", online_every="1s", label_delay=f"{DELAY_MS}ms",
            online_records="10000",
        )  # fmt: skip
        small_bundle(folder / "base", "base")
        with open_registry(self.pipeline.settings) as registry:
            registry.register(registration(folder / "base", actor="me"))
            registry.change("base", "CHAMPION", actor="me")
        self.draw = np.random.default_rng(1)
        self.sent = 0

    def send(self, rows: int, age_ms: int = 0, *, frauds: bool = True) -> None:
        now = time.time_ns() // 1_000_000 - age_ms
        for row in range(self.sent, self.sent + rows):
            card, values = f"card-{row % 50}", self.draw.gamma(2.0, 10.0, VECTOR_SIZE)
            values[0] = 900.0 if row % 3 else 10.0
            transaction = {
                "transaction_id": f"t{row}", "event_time": now, "card_id": card,
                "merchant_id": "m", "amount": 1000, "currency": "EUR", "attributes": {},
            }  # fmt: skip
            vector = {
                "source_partition": 0, "source_offset": row, "received_at": now,
                "computed_at": now * 1000, "duplicate": False, "late": False,
                "fingerprint": FINGERPRINT, "vector": values.astype("<f4").tobytes(),
                "transaction": transaction,
            }  # fmt: skip
            self.pipeline.send(FEATURES, card, avro.encode("FeatureVector", vector))
            if frauds and row % 10 == 0:
                label = {
                    "transaction_id": f"t{row}", "card_id": card, "label": "FRAUD",
                    "transaction_time": now, "label_time": now,
                }  # fmt: skip
                self.pipeline.send(LABELS, card, avro.encode("Label", label))
        self.sent += rows
        self.pipeline.producer.flush(30.0)

    def learner(self) -> Service:
        arguments = ["--output", self.folder / "models", "--state", self.folder / "state"]
        report = ["--json", self.folder / "report.json"]
        service = Service(
            "online",
            ["-m", "trainer", "online", *map(str, [*arguments, *report])],
            env={**os.environ, **self.pipeline.environment},
            log_dir=self.pipeline.log_dir,
        )
        self.pipeline.services.append(service)
        return service

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        return found

    def read(self, service: Service) -> float:
        """Return how many messages this start of the service has read."""
        with urlopen(f"http://127.0.0.1:{service.health_port}/metrics") as answer:
            samples = list(read_exposition(answer.read().decode()))
        return sum(value for name, _, value in samples if name == "fraud_records_total")

    def shadows(self) -> list[dict[str, Any]]:
        return [each for each in self.pipeline.records(MODELS) if each["stage"] == "SHADOW"]


@pytest.fixture
def bench(stack: Stack, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(stack, tmp_path)
    with made.pipeline:
        yield made


def test_a_shadow_is_published_and_every_label_is_learned_once(bench: Bench) -> None:
    service = bench.learner()
    service.start()
    service.wait_ready()
    bench.send(1_000, age_ms=2 * DELAY_MS)
    until(lambda: bench.read(service) == 1_000 + 100, "what is too young to learn from")
    bench.send(1, frauds=False)  # whose arrival makes the genuine among them mature
    until(lambda: bench.read(service) == 1_001 + 100, "the one after")
    bench.send(299)
    until(lambda: bench.read(service) == 1_300 + 129, "everything that was sent")
    until(lambda: bool(bench.shadows()), "a shadow")
    event = bench.shadows()[0]
    assert event["model_id"] == "base+online-1"
    model = load_model(bundle_directory(event["artefact_uri"]), event["sha256"])
    assert model.adjustment is not None
    assert model.adjustment.base == "base"
    assert abs(model.adjustment.intercept) > 0
    service.stop()
    first = bench.report()
    assert first["transactions"] == bench.sent
    assert first["learned_frauds"] == 29
    assert first["learned_genuine"] >= 50
    service.start()
    service.wait_ready()
    before = bench.sent
    bench.send(300)
    until(lambda: bench.read(service) == 300 + 30, "everything that was sent since")
    service.stop()
    second = bench.report()
    assert second["transactions"] == bench.sent - before, "it went on where it had stopped"
    assert second["learned_frauds"] == 30
