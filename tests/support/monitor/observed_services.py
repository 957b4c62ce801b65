"""Every service of one pipeline as a process, and a real Prometheus that scrapes them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from devstack.servers.prometheus import Prometheus
from devstack.service_process import Service
from devstack.stack import Stack
from monitor.observability import DASHBOARDS, RULES
from runtime.kafka.model_registry import open_registry, registration
from schemas.codec import avro
from schemas.features import NAMES
from schemas.topics import POLICY
from tests.support.pipeline import Pipeline
from tests.support.scorer.stand_ins import small_bundle
from tests.support.waiting import PATIENCE_S, until
from trainer.evaluation.evaluate import histogram

COMMANDS = {
    "stream_features": ("stream_features", "run"),
    "scorer": ("scorer", "run"),
    "gateway": ("gateway", "run"),
    "store": ("database", "store"),
    "archiver": ("trainer", "archive"),
    "trainer": ("trainer", "run"),
    "online": ("trainer", "online"),
    "monitor": ("monitor", "run"),
    "dashboard": ("dashboard", "run"),
}
"""Command by job, as in docker-compose.yml."""
NOT_YET = {
    "fraud_training_success_timestamp_seconds": "no training run has passed",
    "fraud_online_auc": "the learner's window does not hold enough frauds",
    "ALERTS": "nothing fires while all is well",
}
"""What has no value, not even 0, before something has happened, and what that is."""
PAN = "4111111111111111"
SECRET = "hmac-secret-of-this-test-of-32-bytes"
POLICY_DOCUMENT = {
    "version": "observed-1",
    "thresholds": {"block": 0.95, "review": 0.75},
    "rules": [
        {"id": "large", "action": "REVIEW", "when": "amount > 500", "text": "a large amount"}
    ],
    "fallback": "REVIEW",
}
ROWS = 600
"""Transactions of which every second one gets its label, before all is well."""
LARGE = 100_000
"""An amount that the champion blocks, and the policy reviews without it."""


class Observed:
    """See the module. `proved` are the alerts that were waited for and came.

    Args:
        rules: the files of rules that Prometheus evaluates.
        options: by job, more of its command line.
        unwatched: jobs that Prometheus does not know at first.
        settings: more than the common ones, as `load_settings` takes them.
    """

    def __init__(
        self,
        stack: Stack,
        folder: Path,
        rules: list[Path],
        options: dict[str, list[str]],
        *,
        unwatched: tuple[str, ...] = (),
        **settings: str,
    ) -> None:
        self.stack, self.folder = stack, folder
        self.archive, self.runs = folder / "archive", folder / "runs"
        self.pipeline = Pipeline(
            stack,
            folder / "logs",
            label_delay="500ms",
            pan_hmac_key=SECRET,
            online_every="1s",
            online_frauds="20",
            archive_url=str(self.archive),
            archive_flush_after="1s",
            dashboard_port="0",
            **settings,
        )
        models = ["--output", str(folder / "models")]
        options = {
            "trainer": [*models, "--state", str(self.runs)],
            "online": [*models, "--state", str(folder / "online")],
            **options,
        }
        self.services = {
            job: self._service(job, [*command, *options.get(job, ())])
            for job, command in COMMANDS.items()
        }
        self.jobs = {job: [self.services[job].health_port] for job in COMMANDS}
        watched = {job: ports for job, ports in self.jobs.items() if job not in unwatched}
        self.prometheus = Prometheus(folder / "prometheus", watched, rules, "1s")
        self.fired: set[tuple[str, str]] = set()
        self.proved: set[str] = set()
        self.sent = 0

    def _service(self, name: str, arguments: list[str]) -> Service:
        env = {**self.pipeline.environment, "FRAUD_WORKER_ID": name}
        service = Service(name, ["-m", *arguments], env=env, log_dir=self.pipeline.log_dir)
        self.pipeline.services.append(service)
        return service

    def start(self, *names: str) -> None:
        """Start processes and wait until all of them serve."""
        for name in names:
            self.services[name].start()
        for name in names:
            self.services[name].wait_ready()

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire now, and remember them with their job."""
        now = self.prometheus.firing()
        self.fired |= {
            (labels["alertname"], labels.get("job", labels.get("service", ""))) for labels in now
        }
        return {labels["alertname"] for labels in now}

    def until_fire(self, *alerts: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Wait for alerts, `Name` or `Name of job`; `meanwhile` is called twice a second.

        What fired before and has ended does not count.
        """
        missing, called_at = set(alerts), 0.0
        self.fired.clear()

        def fire() -> bool:
            nonlocal called_at
            if time.monotonic() - called_at > 0.5:
                called_at = time.monotonic()
                meanwhile()
            self.firing()
            for alert in list(missing):
                name, _, of = alert.partition(" of ")
                if any(name == fired and of in ("", job) for fired, job in self.fired):
                    missing.discard(alert)
                    self.proved.add(name)
            return not missing

        try:
            until(fire, f"{', '.join(alerts)} fire")
        except AssertionError as error:
            raise AssertionError(f"did not fire: {', '.join(sorted(missing))}") from error

    def publish_policy(self) -> None:
        """Put the policy into force."""
        event = {
            "policy_id": "default",
            "version": POLICY_DOCUMENT["version"],
            "document": json.dumps(POLICY_DOCUMENT),
            "occurred_at": 1,
            "actor": "test",
        }
        self.pipeline.send(POLICY, "default", avro.encode("PolicyEvent", event))
        self.pipeline.producer.flush(PATIENCE_S)

    def publish_model(
        self, name: str, stage: str, *, share: float | None = None, edge: float = 500.0
    ) -> Path:
        """Put a model that blocks amounts above `edge` at a stage; return its bundle.

        It has a reference for the monitor.
        """
        draw = np.random.default_rng(1)
        reference = {column: histogram(draw.gamma(2.0, 10.0, 2_000)) for column in NAMES}
        reference["score"] = histogram(draw.beta(0.3, 20, 2_000))
        bundle = self.folder / name
        small_bundle(bundle, name, histograms=reference, edge=edge)
        with open_registry(self.pipeline.settings) as registry:
            registry.register(registration(bundle, actor="me"))
            registry.change(name, stage, actor="me", share=share)  # type: ignore[arg-type]
        return bundle

    def serves(self, name: str, scorers: int) -> None:
        """Wait until so many scorers have a model in use."""
        query = f'fraud_model_info{{model_id="{name}"}}'
        until(lambda: len(self.prometheus.query(query)) == scorers, f"{name} serves")

    def send(self, rows: int, *, large: int = 10) -> list[dict[str, Any]]:
        """Send transactions of now, one in `large` of a LARGE amount, and return them."""
        now = _now_ms()
        made = [
            {
                "transaction_id": f"t{row}",
                "event_time": now,
                "card_id": PAN if row % 97 == 0 else f"holder-{row % 97:04d}",
                "merchant_id": f"shop-{row % 7}",
                "amount": LARGE if row % large == 0 else 1_000 + row % 1_000,
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
                    "label": "FRAUD" if row["amount"] == LARGE else "GENUINE",
                    "transaction_time": row["event_time"],
                    "label_time": _now_ms(),
                }
            )

    def all_is_well(self, fires_anyway: frozenset[str] = frozenset()) -> None:
        """Wait until every query has an answer, and then until no other alert fires."""
        missing: list[str] = []

        def answered() -> bool:
            if self.sent < 5 * ROWS:
                self.send(20)
            missing[:] = unanswered(self.prometheus)
            return not missing

        try:
            until(answered, "every query has an answer")
        except AssertionError as error:
            raise AssertionError(f"without an answer: {missing}") from error
        until(lambda: self.firing() <= fires_anyway, "no alert fires while all is well")


def queries() -> Iterator[str]:
    """Yield what every panel and every recording rule asks for."""
    for path in DASHBOARDS.glob("*.json"):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                yield target["expr"].replace("$__rate_interval", "20s")
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from (rule["record"] for rule in group["rules"] if "record" in rule)


def unanswered(prometheus: Prometheus) -> list[str]:
    """Return the queries without an answer."""
    return [
        query
        for query in sorted(set(queries()))
        if not any(re.search(rf"\b{name}\b", query) for name in NOT_YET)
        and not prometheus.query(query)
    ]


def check_logs(folder: Path) -> None:
    """Every line is JSON that says which service wrote it; no card and no secret is in any."""
    for path in folder.glob("*.log"):
        for line in path.read_text().splitlines():
            assert PAN not in line
            assert SECRET not in line
            assert not re.search(r"holder-\d{4}", line), line
            assert json.loads(line)["service"], line


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
