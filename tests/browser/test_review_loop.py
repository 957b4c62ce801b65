"""A verdict's whole way, with every process on a real stack and a real Chromium: REVIEW decision →
case → verdict → label → the merchant's feature and the monitor's precision."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from database.accounts import people
from database.accounts.passwords import Passwords
from database.core.database import Database
from database.core.opening import open_database
from database.review.cases import count_cases
from devstack.ports import free_port
from devstack.service_process import Service
from devstack.stack import Stack
from runtime.metrics import read_exposition
from runtime.settings import load_settings
from schemas.codec import avro
from schemas.features import FINGERPRINT, HOUR, MINUTE, NAMES
from schemas.manifest import MANIFEST_NAME, sha256
from schemas.topics import DECISIONS, FEATURES, LABELS, MODELS, POLICY
from tests.support.dashboard.site import PASSWORD
from tests.support.pipeline import Pipeline
from tests.support.scorer.stand_ins import small_bundle
from tests.support.waiting import PATIENCE_S, until

MODEL = "model-a"
RULE = {
    "id": "large",
    "action": "REVIEW",
    "when": "amount >= 300",
    "text": "an amount that people look at",
}


class Town:
    """Every process of the loop; cards pay at one merchant."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.port = free_port()
        url = f"sqlite:///{folder / 'fraud.db'}"
        self.pipeline = Pipeline(
            stack, folder / "logs", database_url=url, label_delay="1s", case_undo="2s",
            monitor_clock="event", dashboard_port=str(self.port),
        )  # fmt: skip
        self.database: Database = open_database(load_settings(database_url=url))
        self.address = f"http://127.0.0.1:{self.port}"
        self.sent = 0
        with self.database.begin() as connection:
            people.add(connection, "ann", "analyst", "-", by="test", now_ms=1)
            hashed = Passwords().hash(PASSWORD)
            people.change_password(connection, "ann", hashed, replaces="-", now_ms=1)
        small_bundle(folder / MODEL, MODEL)
        event: dict[str, Any] = {
            "model_id": MODEL, "stage": "CHAMPION", "canary_share": None, "metrics": {},
            "artefact_uri": (folder / MODEL).as_uri(), "fingerprint": FINGERPRINT,
            "sha256": sha256((folder / MODEL / MANIFEST_NAME).read_bytes()),
            "occurred_at": now_ms(), "actor": "test", "comment": None,
        }  # fmt: skip
        policy = {
            "policy_id": "default", "version": "v1", "occurred_at": 1, "actor": "test",
            "document": json.dumps({"version": "v1", "rules": [RULE]}),
        }  # fmt: skip
        self.pipeline.send(MODELS, MODEL, avro.encode("ModelEvent", event))
        self.pipeline.send(POLICY, "default", avro.encode("PolicyEvent", policy))
        self.pipeline.producer.flush(PATIENCE_S)

    def start(self) -> None:
        services = [
            self.pipeline.service(package) for package in ("stream_features", "scorer", "monitor")
        ]
        for name, args in (
            ("store", ["-m", "database", "store"]),
            ("dashboard", ["-m", "dashboard", "run"]),
        ):
            environment, logs = self.pipeline.environment, self.pipeline.log_dir
            services.append(Service(name, args, env=environment, log_dir=logs))
        self.pipeline.services[:] = services
        self.monitor = services[2]
        for service in services:
            service.start()
        for service in services:
            service.wait_ready()

    def pay(self, minor: int, at: int) -> dict[str, Any]:
        """Send one transaction; return its decision."""
        self.sent += 1
        transaction_id = f"tx-{self.sent}"
        self.pipeline.send_transactions(
            [
                {
                    "transaction_id": transaction_id, "event_time": at, "amount": minor,
                    "card_id": f"card-{self.sent}", "merchant_id": "corner-shop",
                    "currency": "EUR", "channel": "ECOM", "device_id": f"device-{self.sent}",
                }
            ]
        )  # fmt: skip
        decided = self.pipeline.wait_for(DECISIONS, self.sent)
        return next(each for each in decided if each["transaction_id"] == transaction_id)

    def feature(self, name: str) -> float:
        """Return a feature of the newest transaction."""
        vectors = self.pipeline.wait_for(FEATURES, self.sent)
        newest = next(
            each for each in vectors
            if each["transaction"]["transaction_id"] == f"tx-{self.sent}"
        )  # fmt: skip
        return float(np.frombuffer(newest["vector"], "<f4")[NAMES.index(name)])

    def quality(self, name: str, **labels: str) -> float | None:
        """Return a figure of the model as the monitor tells it, None while there is none."""
        address = f"http://127.0.0.1:{self.monitor.health_port}/metrics"
        with urlopen(address, timeout=PATIENCE_S) as answer:
            text = answer.read().decode()
        wanted = {"model_id": MODEL, "segment": "ALL", **labels}
        for found, given, value in read_exposition(text):
            if found == f"fraud_quality_{name}" and given.items() >= wanted.items():
                return None if np.isnan(value) else value
        return None


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture
def town(stack: Stack, tmp_path: Path) -> Iterator[Town]:
    made = Town(stack, tmp_path)
    with made.pipeline, made.database:
        made.start()
        yield made


def test_a_verdict_reaches_the_merchants_feature_and_the_monitors_precision(
    town: Town, browser_page: Page
) -> None:
    minutes = count(now_ms() - 20 * HOUR, MINUTE)  # event time, by which the monitor goes

    def ready() -> bool:
        decision = town.pay(100, next(minutes))
        known = (decision["model_id"], decision["policy_version"]) == (MODEL, "v1")
        return known and town.quality("alert_rate") == 0

    until(ready, "model and policy in use, and watched")
    for minor in (40_000, 35_000):
        decision = town.pay(minor, next(minutes))
        assert (decision["decision"], decision["rule_hits"]) == ("REVIEW", ["large"])
    assert town.feature("merchant_fraud_rate_1d") == 0
    assert not town.quality("precision", action="ALERT")  # none, or 0 at the turn of an hour

    def opened() -> bool:
        with town.database.read() as connection:
            return count_cases(connection, 0, 0).free == 2

    until(opened, "the cases")
    page = browser_page
    page.goto(f"{town.address}/queue")
    page.get_by_label("Username").fill("ann")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/queue")
    for paid, key in (("400.00 EUR", "f"), ("350.00 EUR", "g")):
        if key == "f":
            page.keyboard.press("n")
        expect(page.get_by_role("heading", level=1)).to_have_text(f"{paid} at corner-shop")
        expect(page.get_by_text(RULE["text"])).to_be_visible()
        expect(page.get_by_text("device-")).to_be_visible()
        page.wait_for_load_state()  # with it the keys
        page.keyboard.press(key)
    page.wait_for_url("**/queue")

    labels = {label["transaction_id"]: label for label in town.pipeline.wait_for(LABELS, 2)}
    assert len(labels) == 2
    found = sorted((each["label"], each["source"]) for each in labels.values())
    assert found == [("FRAUD", "ANALYST"), ("GENUINE", "ANALYST")]
    page.goto(f"{town.address}/queue?shown=decided")
    page.get_by_role("link", name="400.00 EUR").first.click()
    expect(page.get_by_text("Sent as a label.")).to_be_visible()

    until(lambda: town.pipeline.labels_processed() == 2, "the labels in the features")
    town.pay(100, next(minutes))
    assert town.feature("merchant_fraud_rate_1d") == pytest.approx(1 / (town.sent - 1))

    def judged() -> bool:
        town.pay(100, next(minutes))
        return town.quality("precision", action="ALERT") == pytest.approx(0.5)

    until(judged, "a precision of 1 in 2")
