"""The one sentence: the worst finding wins."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard.live.verdict import verdict
from dashboard.web.runbook import RUNBOOK, as_html
from monitor.judge.rules import default_rules

WELL: dict[str, float | None] = {
    "approve": 90.0, "review": 5.0, "block": 5.0, "p99": 12.0, "lag_stream": 3.0, "lag_scorer": 0.0
}  # fmt: skip


def process(name: str = "scorer-1", **changes: Any) -> dict[str, Any]:
    return {"name": name, "service": "scorer", "up": True, "ready": True, "reason": ""} | changes


def told(
    *,
    processes: list[dict[str, Any]] | None = None,
    champion: str | None = "m",
    kafka: str = "",
    raised: dict[str, Any] | None = None,
    **point: float | None,
) -> tuple[str, str, str]:
    found = verdict(
        [process()] if processes is None else processes,
        WELL | point,
        champion=champion,
        raised=raised or {},
        kafka=kafka,
    )
    return found.level, found.text, found.anchor


ALERT = {"low_precision": {"level": "bad", "title": "low_precision", "text": "precision is low"}}


def test_all_is_well() -> None:
    assert told() == ("good", "Healthy: 100 decisions a second, 99 of 100 within 12 ms.", "")


@pytest.mark.parametrize(
    ("facts", "level", "part"),
    [
        ({"processes": []}, "bad", "No process is watched"),
        (
            {"processes": [process(), process("m", up=False, ready=False, reason="refused")]},
            "bad",
            "m is down: refused.",
        ),
        (
            {"processes": [process(ready=False, reason="waits for Kafka")]},
            "bad",
            "scorer-1 does not serve: waits for Kafka.",
        ),
        ({"kafka": "no answer"}, "bad", "Kafka"),
        ({"champion": None}, "warn", "No model decides"),
        ({"lag_scorer": 6_000.0}, "warn", "6,000 records wait for scorer"),
        ({"p99": 250.0}, "warn", "250 ms"),
        ({"raised": ALERT}, "bad", "Precision is low."),
        ({"approve": 0.0, "review": 0.0, "block": 0.0}, "idle", "no transaction"),
        ({"approve": None, "review": None, "block": None, "p99": None}, "idle", "no transaction"),
    ],
)
def test_each_finding(facts: dict[str, Any], level: str, part: str) -> None:
    found = told(**facts)
    assert found[0] == level
    assert part in found[1]


def test_the_worst_comes_first_and_names_its_runbook_entry() -> None:
    down = [process("a", up=False, ready=False, reason="gone")]
    assert told(processes=down, champion=None, raised=ALERT)[1].startswith("a is down")
    assert told(raised=ALERT)[2] == "low_precision"
    warning = {"drift": {"level": "warn", "title": "drift", "text": "drift"}}
    assert told(raised=warning | ALERT)[2] == "low_precision"


def test_every_finding_has_an_entry_in_the_runbook() -> None:
    facts: list[dict[str, Any]] = [
        {"processes": [process(up=False, ready=False)]},
        {"processes": [process(ready=False)]},
        {"kafka": "gone"},
        {"champion": None},
        {"lag_stream": 9_000.0},
        {"p99": 999.0},
    ]
    html = str(as_html(RUNBOOK.read_text()))
    rules = [rule.name for rule in default_rules()]
    for entry in (*(told(**each)[2] for each in facts), *rules):
        assert f'id="{entry.lower()}"' in html, entry


@pytest.mark.parametrize(
    "point", [{"lag_stream": 5_000.0}, {"lag_scorer": 5_000.0}, {"p99": 100.0}]
)
def test_a_figure_up_to_its_bound_is_healthy(point: dict[str, Any]) -> None:
    assert told(**point)[0] == "good"


def test_one_decision_in_a_while_is_not_idle() -> None:
    few: dict[str, Any] = {"approve": 0.1, "review": None, "block": 0.0, "p99": 0.4}
    assert told(**few)[:2] == ("good", "Healthy: 0 decisions a second, within 1 ms.")
    assert told(**few | {"approve": 0.04})[0] == "idle"
