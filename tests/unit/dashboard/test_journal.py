"""What changed, and what was decided: from messages to what the page shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dashboard.live.journal import Journal
from dashboard.live.recent_decisions import BINS, BLOCKS, RecentDecisions
from dashboard.live.recent_labels import RecentLabels
from runtime.kafka.protocols import Message
from schemas.codec import avro
from schemas.records import Stage
from tests.support.monitor.traffic import decision_message, label_message, model_event

NOW = 1_770_000_000_000


def message(value: bytes | None, key: str = "k", offset: int = 0) -> Message:
    return Message("topic", 0, offset, NOW, key.encode(), value)


def alert(state: str | None, severity: str = "CRITICAL", at: int = NOW) -> Message:
    detail = {} if state is None else {"state": state}
    record: dict[str, Any] = {
        "rule": "low_precision", "severity": severity, "summary": "precision below 0.85",
        "detail": detail, "service": "monitor", "occurred_at": at,
    }  # fmt: skip
    return message(avro.encode("Alert", record))


def policy(version: str, thresholds: str = "null") -> Message:
    document = f'{{"version": "{version}", "thresholds": {thresholds}}}'
    record = {
        "policy_id": "default", "version": version, "document": document,
        "occurred_at": NOW + 5, "actor": "jane",
    }  # fmt: skip
    return message(avro.encode("PolicyEvent", record), "default")


def test_an_alert_is_raised_until_it_is_resolved() -> None:
    journal = Journal()
    journal.take("alerts", [alert("raised"), alert(None, at=NOW + 1), message(b"noise")])
    assert list(journal.raised) == ["low_precision"]
    assert [change["level"] for change in journal.changes()] == ["bad", "bad"]
    journal.take("alerts", [alert("resolved", "INFO", NOW + 2)])
    assert journal.raised == {}
    assert journal.changes()[0]["level"] == "good"


def test_an_alert_of_replayed_history_is_as_old_as_its_message() -> None:
    journal = Journal()
    journal.take("alerts", [alert("raised", at=NOW - 10**10)])
    assert [change["at"] for change in journal.changes()] == [NOW]


def test_models_are_listed_with_the_steps_from_where_they_stand(tmp_path: Path) -> None:
    journal = Journal()
    placed: tuple[tuple[str, Stage, float | None], ...] = (
        ("a", "CHAMPION", None), ("b", "CANARY", 0.1), ("c", "RETIRED", None),
    )  # fmt: skip
    for at, (name, stage, share) in enumerate(placed):
        event = model_event(tmp_path / name, "0" * 64, stage, NOW + at, share)
        journal.take("models", [message(event, name)])
    found = journal.models()
    assert [(model["model_id"], model["stage"]) for model in found] == [
        ("a", "CHAMPION"), ("b", "CANARY"), ("c", "RETIRED"),
    ]  # fmt: skip
    assert "CHAMPION" in found[1]["steps"]
    assert found[2]["steps"] == ["REGISTERED"]
    assert journal.changes()[1]["text"] == "decides as a canary for 10% of the cards (test)"


def test_a_policy_in_force_gives_its_thresholds_and_a_refused_one_changes_nothing() -> None:
    journal = Journal()
    journal.take("policy", [policy("7", '{"block": 0.9, "review": 0.6}'), policy("8", '"high"')])
    assert (journal.policy, journal.thresholds) == ("7", (0.6, 0.9))
    assert [change["title"] for change in journal.changes()] == ["policy 7"]
    journal.take("policy", [message(None, "default")])
    assert (journal.policy, journal.thresholds) == ("", None)


def decided(*scores: float, at: int = NOW) -> list[Message]:
    return [
        message(decision_message(number, score, at + number, "m"))
        for number, score in enumerate(scores)
    ]


def test_scores_of_the_last_five_minutes_are_counted() -> None:
    seen = RecentDecisions()
    seen.take([*decided(0.01, 0.02, 0.5, 1.0), message(b"noise")])
    counts = seen.scores(NOW)
    assert (counts[0], counts[10], counts[BINS - 1], sum(counts)) == (2, 1, 1, 4)
    seen.take(decided(0.5, at=NOW + 200_000))
    assert sum(seen.scores(NOW + 200_000)) == 5
    assert sum(seen.scores(NOW + 400_000)) == 1


def test_the_newest_blocks_are_kept_with_their_reasons_and_masked_cards() -> None:
    seen = RecentDecisions()
    seen.take(decided(*[0.99] * (BLOCKS + 3), 0.2))
    reasons = [{"code": "amount", "text": "amount 900.00", "contribution": 2.0}]
    late = decision_message(
        99, 0.99, NOW + 60_000, "m", reasons=reasons, card_id="card-1234567",
        decided_at=(NOW + 60_000) * 1000,
    )  # fmt: skip
    seen.take([message(late)])
    found = seen.blocks()
    assert len(found) == BLOCKS
    assert found[0]["reasons"] == ["amount 900.00"]
    assert found[0]["card"] == "••••4567"
    assert [block["at"] for block in found] == sorted(
        (block["at"] for block in found), reverse=True
    )


def test_the_newest_label_of_a_transaction_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = RecentLabels()
    labels.take(
        [message(label_message(1, True, NOW - 100_000)), message(b"x"),
         message(label_message(2, True, NOW - 100_000)),
         message(label_message(1, False, NOW - 90_000))]
    )  # fmt: skip
    found = labels.find("t1", "c1")
    assert found is not None
    assert not found.fraud
    assert labels.find("t1", "c2") is None
    monkeypatch.setattr("dashboard.live.recent_labels.MAX_KEPT", 2)
    labels.take([message(label_message(3, True, NOW - 100_000))])
    assert labels.find("t2", "c2") is None
    assert labels.find("t3", "c3") is not None
