"""Rules, dashboards and runbook agree with each other and with the metrics that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from devstack.servers.prometheus import promtool
from monitor.judge.rules import default_rules
from monitor.observability import DASHBOARDS, PROMETHEUS, PROVISIONING, RULE_TESTS, RULES
from runtime.metric_series import FROM_START
from runtime.metrics import METRICS, Metrics, read_exposition
from tests.support.monitor.promql import asked
from tests.support.monitor.proved_by_fault import PROVED_BY_FAULT

ROOT = Path(__file__).parents[3]
PROOFS = (ROOT / "docs/alerts.md").read_text()
RUNBOOK = (ROOT / "docs/runbook.md").read_text()
ENTRIES = re.findall(r"^### (\w+)$", RUNBOOK, re.MULTILINE)
GROUPS = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in GROUPS for rule in group["rules"] if "alert" in rule
}
RECORDED: dict[str, str] = {
    rule["record"]: rule["expr"] for group in GROUPS for rule in group["rules"] if "record" in rule
}
OF_THE_MONITOR = {rule.name for rule in default_rules()} | {
    "model_rolled_back",
    "rollback_failed",
    *(f"{kind}_refused" for kind in ("bundle", "policy", "event")),
}
BOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))
}
TARGET_LABELS = {"job", "instance"}


def _panels(board: str) -> list[dict[str, Any]]:
    return [panel for panel in BOARDS[board]["panels"] if panel["type"] != "row"]


def _expressions() -> Iterator[tuple[str, str]]:
    """Yield the place and the text of every query that ships."""
    for name, rule in ALERTS.items():
        yield f"alert {name}", rule["expr"]
    for name, expression in RECORDED.items():
        yield f"record {name}", expression
    for board in BOARDS:
        for panel in _panels(board):
            for target in panel["targets"]:
                yield f"{board}: {panel['title']}", target["expr"]


EXPRESSIONS = list(_expressions())


def _labels() -> dict[str, set[str]]:
    """Return the labels of every series that Prometheus has from us."""
    found: dict[str, set[str]] = {}
    for spec in METRICS:
        labels = {"service", *spec.labels} | TARGET_LABELS
        if spec.kind == "histogram":
            found[f"fraud_{spec.name}_bucket"] = labels | {"le"}
            found[f"fraud_{spec.name}_sum"] = found[f"fraud_{spec.name}_count"] = labels
        else:
            found[f"fraud_{spec.name}" + ("_total" if spec.kind == "counter" else "")] = labels
    for name, _, _ in read_exposition(Metrics("scorer").exposition().decode()):
        if name.startswith("process_"):
            found[name] = TARGET_LABELS
    for name in RECORDED:
        found[name] = set(name.split(":")[0].split("_")) & {"service", "topic", "stage", "step"}
        found[name] |= {"decision", "reason", "field"} & {name.split(":")[0]}
    found["up"] = TARGET_LABELS
    found["ALERTS"] = {"alertname", "alertstate", "severity"}
    return found


LABELS = _labels()


def _names_every_alert(found: set[str], place: str) -> None:
    missing, unknown = sorted(set(ALERTS) - found), sorted(found - set(ALERTS))
    assert not missing, f"{missing} need {place}"
    assert not unknown, f"no alert is called {unknown}, but there is {place}"


def test_promtool_accepts_rules_and_configuration() -> None:
    answer = promtool("check", "rules", *map(str, RULES))
    assert answer.returncode == 0, answer.stderr
    answer = promtool("check", "config", str(PROMETHEUS))
    assert answer.returncode == 0, answer.stderr


def test_the_tests_of_the_rules_pass() -> None:
    files = [path.name for path in sorted(RULE_TESTS.glob("*.yml"))]
    answer = promtool("test", "rules", *files, folder=RULE_TESTS)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert answer.stdout.count("SUCCESS") == len(files) >= 5


def test_every_alert_is_proved_to_come_and_to_stay_away() -> None:
    comes: set[str] = set()
    stays_away: set[str] = set()
    for path in RULE_TESTS.glob("alerts-*.yml"):
        for case in yaml.safe_load(path.read_text())["tests"]:
            for test in case["alert_rule_test"]:
                (comes if test["exp_alerts"] else stays_away).add(test["alertname"])
    _names_every_alert(comes, f"a case in {RULE_TESTS} that raises it")
    _names_every_alert(stays_away, f"a case in {RULE_TESTS} without it")


def test_the_table_of_proofs_names_every_alert_and_those_that_a_real_fault_raises() -> None:
    rows = dict(re.findall(r"^\| (\w+) \| (.+) \|$", PROOFS, re.MULTILINE))
    del rows["alert"]
    _names_every_alert(set(rows), "a row in docs/alerts.md")
    by_fault = {name for name, fault in rows.items() if not fault.startswith("promtool only: ")}
    assert by_fault == PROVED_BY_FAULT


def test_every_recording_is_proved() -> None:
    text = (RULE_TESTS / "recording.yml").read_text()
    proved = {
        test["expr"] for case in yaml.safe_load(text)["tests"] for test in case["promql_expr_test"]
    }
    assert proved == set(RECORDED)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_what_and_where_to_read_on(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "runbook"}
    anchor = "{{ $labels.rule }}" if name == "MonitorRaised" else name.lower()
    assert notes["runbook"] == f"docs/runbook.md#{anchor}"
    known = asked(rule["expr"])
    offered = set().union(known.grouped, *(LABELS[metric] for metric in known.selectors))
    for text in notes.values():
        for label in re.findall(r"\$labels\.(\w+)", text):
            assert label in offered, f"{name} has no label {label}"


def test_the_runbook_has_an_entry_for_each_alert_and_no_other() -> None:
    assert len(ENTRIES) == len(set(ENTRIES))
    _names_every_alert(set(ENTRIES) - OF_THE_MONITOR, "an entry in docs/runbook.md")
    assert set(ENTRIES) >= OF_THE_MONITOR


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_says_what_look_do_and_when_it_is_over(name: str) -> None:
    text = RUNBOOK.split(f"### {name}\n", 1)[1].split("\n#", 1)[0]
    reference = re.search(r"See \[(\w+)\]\(#(\w+)\)", text)
    if reference is not None:
        assert reference[1] in ENTRIES
        assert reference[2] == reference[1].lower()
        return
    for part in ("Means", "Look", "Do", "Over when"):
        assert re.search(rf"^- \*\*{part}\*\*: .{{4,}}", text, re.MULTILINE), part


def test_settings_alerts_and_panels_that_the_runbook_names_exist() -> None:
    from runtime.settings import Settings

    known = {f"FRAUD_{field.upper()}" for field in Settings.model_fields}
    for name in re.findall(r"FRAUD_[A-Z0-9_]+\*?", RUNBOOK):
        assert name in known or name.endswith("*"), name
    titles = {panel["title"] for board in BOARDS for panel in _panels(board)}
    headings = {title.lower() for title in titles} | set(BOARDS) | {"stream features", "targets"}
    stages = {"commit"}
    for name in re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", RUNBOOK):
        assert name.lower() in headings | stages, f"no panel {name}"


@pytest.mark.parametrize(("place", "expression"), EXPRESSIONS)
def test_a_query_asks_for_metrics_and_labels_that_exist(place: str, expression: str) -> None:
    found = asked(expression)
    assert found.selectors, f"{place}: asks for nothing"
    for metric, labels in found.selectors.items():
        assert metric in LABELS, f"{place}: no metric {metric}"
        assert labels <= LABELS[metric], f"{place}: {metric} has no {labels - LABELS[metric]}"
    offered = set().union(*(LABELS[metric] for metric in found.selectors))
    assert found.grouped <= offered, f"{place}: no label {found.grouped - offered}"


def test_the_recorded_names_say_the_labels_that_are_left() -> None:
    for name, expression in RECORDED.items():
        level = name.split(":")[0]
        lists = re.findall(r"by \(([^)]*)\)", expression)
        left = {
            "_".join(each for each in re.split(r",\s*", names) if each != "le") for names in lists
        }
        assert level in left, name


def test_promtool_accepts_the_queries_of_the_dashboards(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, (_, expression) in enumerate(EXPRESSIONS)
    ]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    answer = promtool("check", "rules", str(path))
    assert answer.returncode == 0, answer.stderr


def test_somebody_looks_at_every_metric() -> None:
    seen = {metric for _, expression in EXPRESSIONS for metric in asked(expression).selectors}
    bare = {re.sub(r"_(total|bucket|sum|count)$", "", metric) for metric in seen}
    assert {f"fraud_{spec.name}" for spec in METRICS} - bare == set()
    assert set(RECORDED) <= seen


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_is_complete(name: str) -> None:
    board = BOARDS[name]
    assert board["uid"] == f"fraud-{name}"
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (place["x"] + right, place["y"] + down)
            for right in range(place["w"])
            for down in range(place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies on another panel"
        taken |= cells
    for panel in _panels(name):
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert all(each["datasource"]["uid"] == "${datasource}" for each in panel["targets"])


def test_provisioning_finds_prometheus_and_the_dashboards() -> None:
    [source] = yaml.safe_load((PROVISIONING / "datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    assert source["type"] == "prometheus"
    [provider] = yaml.safe_load((PROVISIONING / "dashboards/fraud.yml").read_text())["providers"]
    assert provider["type"] == "file"
    assert set(BOARDS) == {"overview", "stream-features", "scorer", "learning", "infrastructure"}


def test_jobs_have_the_names_that_processes_give_themselves() -> None:
    jobs = {job["job_name"] for job in yaml.safe_load(PROMETHEUS.read_text())["scrape_configs"]}
    assert set(FROM_START) <= jobs
    [watched] = re.findall(r'up\{job=~"([^"]*)"\}', ALERTS["ProcessDown"]["expr"])
    assert set(watched.split("|")) == jobs
