"""Notification against a real HTTP server on loopback: sent, tried again, given up."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from monitor.notify import Notifier
from runtime.metrics import Metrics, read_exposition
from schemas.errors import ConfigurationError
from schemas.records import Alert
from tests.support.http_server import Answer, Asked, serving

ALERT: Alert = {
    "rule": "low_precision", "severity": "CRITICAL", "summary": "precision below 0.85: m 0.8",
    "detail": {"state": "raised", "m": "0.8"}, "service": "monitor", "occurred_at": 1,
}  # fmt: skip


class Hook:
    """A webhook that answers with the statuses it was given, then 200."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.received: list[dict[str, Any]] = []
        self.arrived = threading.Event()
        self.url = ""

    def answer(self, asked: Asked) -> Answer:
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 200:
            self.received.append(json.loads(asked.body))
            self.arrived.set()
        return Answer(status)


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    with serving(made.answer) as address:
        made.url = f"{address.replace('http:', 'json:')}/hook"
        yield made


def outcomes(metrics: Metrics) -> dict[str, float]:
    return {
        labels["outcome"]: value
        for name, labels, value in read_exposition(metrics.exposition().decode())
        if name == "fraud_notifications_total" and value
    }


def test_an_alert_arrives_and_a_failure_is_tried_again(hook: Hook) -> None:
    hook.statuses = [503]
    metrics = Metrics("monitor")
    notifier = Notifier([hook.url], metrics, waits_s=[0.0])
    notifier.send(ALERT)
    assert hook.arrived.wait(30.0)
    notifier.close()
    (received,) = hook.received
    assert received["title"] == "[CRITICAL] low_precision"
    assert "precision below 0.85: m 0.8" in received["message"]
    assert received["type"] == "failure"
    assert outcomes(metrics) == {"sent": 1}


def test_a_receiver_that_is_down_does_not_keep_others_from_it(hook: Hook) -> None:
    metrics = Metrics("monitor")
    notifier = Notifier(["json://127.0.0.1:1/nobody", hook.url], metrics, waits_s=[0.0])
    notifier.send(ALERT)
    assert hook.arrived.wait(30.0)
    notifier.close()
    assert len(hook.received) == 1
    assert outcomes(metrics) == {"failed": 1, "sent": 1}


def test_a_wrong_address_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigurationError, match="FRAUD_ALERT_URLS: address 1") as error:
        Notifier(["nonsense://a-secret-token"], Metrics("monitor"))
    assert "a-secret-token" not in str(error.value)


class Receiver:
    """Takes alerts one at a time when it is let; returns whether it was successful."""

    def __init__(self, sent: bool) -> None:
        self.sent = sent
        self.began, self.let = threading.Event(), threading.Event()

    def notify(self, **_: object) -> bool:
        self.began.set()
        assert self.let.wait(30.0)
        return self.sent


def test_behind_a_slow_receiver_a_thousand_alerts_wait_and_the_others_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiver, metrics = Receiver(True), Metrics("monitor")
    monkeypatch.setattr("monitor.notify._receiver", lambda url, place: receiver)
    notifier = Notifier(["slow"], metrics)
    notifier.send(ALERT)
    assert receiver.began.wait(30.0)
    for _ in range(1_005):
        notifier.send(ALERT)
    assert outcomes(metrics) == {"dropped": 5}
    receiver.let.set()
    notifier.close(30.0)
    assert outcomes(metrics) == {"dropped": 5, "sent": 1_001}


def test_at_the_end_it_is_tried_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver, metrics = Receiver(False), Metrics("monitor")
    monkeypatch.setattr("monitor.notify._receiver", lambda url, place: receiver)
    notifier = Notifier(["down"], metrics, waits_s=[60.0, 60.0])
    notifier.send(ALERT)
    assert receiver.began.wait(30.0)
    receiver.let.set()
    notifier.close()
    assert outcomes(metrics) == {"failed": 1}
