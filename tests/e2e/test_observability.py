"""A real Prometheus over the running services: every query has an answer, faults raise alerts.

The rules are those that ship, their windows and waits divided by 20.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from devstack.prometheus import Prometheus
from devstack.service import Service
from devstack.stack import Stack
from monitor.observability import DASHBOARDS, RULES
from schemas import codec
from schemas.features import FINGERPRINT, NAMES
from schemas.records import ModelEvent
from schemas.runtime.model_registry import open_registry, registration
from schemas.topics import DECISIONS, MODELS, POLICY, TRANSACTIONS
from tests.e2e.faster_rules import faster_rules
from tests.e2e.pipeline import Pipeline, until
from tests.unit.scorer.stand_ins import small_bundle
from trainer.evaluation.evaluate import histogram

PATIENCE_S = 240.0
ROWS = 600
"""Transactions, of which every fifth is blocked and every second one gets its label."""
COMMANDS = {
    "stream_features": ("stream_features", "run"),
    "scorer": ("scorer", "run"),
    "gateway": ("scorer", "api"),
    "store": ("scorer", "store"),
    "archiver": ("trainer", "archive"),
    "trainer": ("trainer", "run"),
    "online": ("trainer", "online"),
    "monitor": ("monitor", "run"),
    "dashboard": ("monitor", "dashboard"),
}
"""Command by job, as in docker-compose.yml."""
NOT_YET = {
    "fraud_training_success_timestamp_seconds": "no training run has passed",
    "fraud_online_auc": "the learner's window does not hold enough frauds",
    "ALERTS": "nothing fires while all is well",
}
"""What has no value, not even 0, before something has happened, and what that is."""
PAN = "4111111111111111"
SECRET = "hmac-secret-of-this-test"
POLICY_DOCUMENT = {
    "version": "observed-1",
    "thresholds": {"block": 0.95, "review": 0.75},
    "rules": [
        {"id": "large", "action": "REVIEW", "when": "amount > 500", "text": "a large amount"}
    ],
    "fallback": "REVIEW",
}


class Observed:
    """Every service of one pipeline, and a Prometheus that scrapes them."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack, self.folder = stack, folder
        self.pipeline = Pipeline(
            stack,
            folder / "logs",
            label_delay="500ms",
            pan_hmac_key=SECRET,
            online_every="1s",
            online_frauds="20",
            archive_url=str(folder / "archive"),
            archive_flush_after="1s",
            database_url=f"sqlite:///{folder / 'fraud.db'}",
            api_port="0",
            dashboard_port="0",
        )
        options = {
            "trainer": ["--output", folder / "models", "--state", folder / "runs"],
            "online": ["--output", folder / "models", "--state", folder / "online"],
        }
        self.services = {
            job: self._service(job, [package, command, *map(str, options.get(job, ()))])
            for job, (package, command) in COMMANDS.items()
        }
        ports = {job: [service.health_port] for job, service in self.services.items()}
        self.prometheus = Prometheus(
            folder / "prometheus", ports, faster_rules(folder / "rules"), "1s"
        )
        self.fired: set[tuple[str, str]] = set()
        self.sent = 0

    def _service(self, job: str, arguments: list[str]) -> Service:
        env = {**self.pipeline.environment, "FRAUD_WORKER_ID": job}
        service = Service(job, ["-m", *arguments], env=env, log_dir=self.pipeline.log_dir)
        self.pipeline.services.append(service)
        return service

    def start(self, *jobs: str) -> None:
        """Start processes and wait until all of them serve."""
        for job in jobs:
            self.services[job].start()
        for job in jobs:
            self.services[job].wait_ready(PATIENCE_S)

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire now, and remember them with their job."""
        now = self.prometheus.firing()
        self.fired |= {
            (labels["alertname"], labels.get("job", labels.get("service", ""))) for labels in now
        }
        return {labels["alertname"] for labels in now}

    def until_fires(self, name: str, of: str = "") -> None:
        def fires() -> bool:
            self.firing()
            return any(alert == name and of in ("", job) for alert, job in self.fired)

        until(fires, f"{name} fires", PATIENCE_S)

    def promote(self) -> None:
        """Make a model the champion, with a reference for the monitor, and publish a policy."""
        draw = np.random.default_rng(1)
        reference = {name: histogram(draw.gamma(2.0, 10.0, 2_000)) for name in NAMES}
        reference["score"] = histogram(draw.beta(0.3, 20, 2_000))
        small_bundle(self.folder / "base", "base", histograms=reference)
        with open_registry(self.pipeline.settings) as registry:
            registry.register(registration(self.folder / "base", actor="me"))
            registry.change("base", "CHAMPION", actor="me")
        event = {
            "policy_id": "default",
            "version": POLICY_DOCUMENT["version"],
            "document": json.dumps(POLICY_DOCUMENT),
            "occurred_at": 1,
            "actor": "test",
        }
        self.pipeline.send(POLICY, "default", codec.encode("PolicyEvent", event))
        self.pipeline.producer.flush(PATIENCE_S)

    def send(self, rows: int) -> list[dict[str, Any]]:
        """Send transactions of now and return them."""
        now = time.time_ns() // 1_000_000
        made = [
            {
                "transaction_id": f"t{row}",
                "event_time": now,
                "card_id": PAN if row % 97 == 0 else f"holder-{row % 97:04d}",
                "merchant_id": f"shop-{row % 7}",
                "amount": 100_000 if row % 5 == 0 else 1_000 + row,
                "currency": "EUR",
                "channel": "ECOM",
            }
            for row in range(self.sent, self.sent + rows)
        ]
        self.sent += rows
        self.pipeline.send_transactions(made)
        return made

    def send_labels(self, of: list[dict[str, Any]]) -> None:
        """Send the label of every second transaction: the large amounts were fraud."""
        for row in of[::2]:
            self.pipeline.send_label(
                {
                    "transaction_id": row["transaction_id"],
                    "card_id": row["card_id"],
                    "label": "FRAUD" if row["amount"] == 100_000 else "GENUINE",
                    "transaction_time": row["event_time"],
                    "label_time": time.time_ns() // 1_000_000,
                }
            )

    def refuse_a_bundle(self) -> None:
        """Publish a model whose bundle is not there."""
        event: ModelEvent = {
            "model_id": "gone",
            "stage": "SHADOW",
            "canary_share": None,
            "artefact_uri": (self.folder / "gone").as_uri(),
            "sha256": "0" * 64,
            "fingerprint": FINGERPRINT,
            "metrics": {},
            "occurred_at": time.time_ns() // 1_000_000,
            "actor": "test",
            "comment": None,
        }
        self.pipeline.send(MODELS, "gone", codec.encode("ModelEvent", event))
        self.pipeline.producer.flush(PATIENCE_S)

    def send_garbage(self, count: int) -> None:
        for number in range(count):
            text = f"no transaction of holder-{number % 97:04d}"
            self.pipeline.send(TRANSACTIONS, f"holder-{number % 97:04d}", text.encode())
        self.pipeline.producer.flush(PATIENCE_S)


@pytest.fixture
def observed(stack: Stack, tmp_path: Path) -> Iterator[Observed]:
    made = Observed(stack, tmp_path)
    with made.pipeline:
        yield made


def _queries() -> Iterator[str]:
    """Yield what every panel and every recording rule asks for."""
    for path in DASHBOARDS.glob("*.json"):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                yield target["expr"].replace("$__rate_interval", "20s")
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from (rule["record"] for rule in group["rules"] if "record" in rule)


def _unanswered(prometheus: Prometheus) -> list[str]:
    return [
        query
        for query in sorted(set(_queries()))
        if not any(re.search(rf"\b{name}\b", query) for name in NOT_YET)
        and not prometheus.query(query)
    ]


def test_every_query_has_an_answer_and_faults_raise_their_alerts(observed: Observed) -> None:
    pipeline, prometheus = observed.pipeline, observed.prometheus
    with prometheus:
        observed.start(*(job for job in COMMANDS if job not in ("online", "monitor")))
        observed.until_fires("NoChampion")
        observed.until_fires("ProcessDown", "monitor")
        observed.promote()
        until(
            lambda: bool(prometheus.query('fraud_model_info{model_id="base"}')),
            "the champion serves",
            PATIENCE_S,
        )
        observed.start("online")
        made = observed.send(ROWS)
        pipeline.wait_for(DECISIONS, ROWS)
        observed.send_labels(made)
        observed.start("monitor")

        missing: list[str] = []

        def answered() -> bool:
            if observed.sent < 5 * ROWS:
                observed.send(20)
            missing[:] = _unanswered(prometheus)
            return not missing

        try:
            until(answered, "every query has an answer", PATIENCE_S)
        except AssertionError as error:
            raise AssertionError(f"without an answer: {missing}") from error
        until(lambda: not observed.firing(), "no alert fires while all is well", PATIENCE_S)

        observed.send_garbage(400)
        observed.refuse_a_bundle()
        observed.until_fires("DeadLettersMany", "stream_features")
        observed.until_fires("ServingRefused", "scorer")
        observed.services["monitor"].kill()
        observed.fired.clear()
        observed.stack.redis.stop()
        try:
            observed.until_fires("RedisUnreachable")
            observed.until_fires("ProcessNotReady", "stream_features")

            paced = [0.0]

            def grows() -> bool:
                observed.firing()
                if time.monotonic() - paced[0] > 0.5:  # it has to grow for as long as `for` says
                    paced[0] = time.monotonic()
                    observed.send(500)
                return ("LagGrowing", "stream_features") in observed.fired

            until(grows, "LagGrowing fires", PATIENCE_S)
        finally:
            observed.stack.redis.start()
        observed.until_fires("ProcessDown", "monitor")
        observed.services["monitor"].start()
        over = {"RedisUnreachable", "ProcessNotReady", "ProcessDown", "LagGrowing"}
        until(lambda: not observed.firing() & over, "the alerts end with their faults", PATIENCE_S)
    _check_logs(pipeline.log_dir)


def _check_logs(folder: Path) -> None:
    """Every line is JSON that says which service wrote it; no card and no secret is in any."""
    for path in folder.glob("*.log"):
        for line in path.read_text().splitlines():
            assert PAN not in line
            assert SECRET not in line
            assert not re.search(r"holder-\d{4}", line), line
            assert json.loads(line)["service"], line
