"""The list of metrics keeps Prometheus' conventions, and the code sets each of them.

promtool's linter reads what every service shows at its start.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from devstack.servers.prometheus import promtool
from runtime.kafka import errors
from runtime.metric_series import CONTEXT_FIELDS, FROM_START
from runtime.metrics import METRICS, Metrics, read_exposition
from schemas.rules.transaction import CONTEXT

ROOT = Path(__file__).parents[3]
PACKAGES = (
    "runtime",
    "database",
    "stream_features",
    "scorer",
    "gateway",
    "dashboard",
    "monitor",
    "trainer",
)
KIND = {"count": "counter", "set": "gauge", "observe": "histogram", "histogram": "histogram"}
"""Methods of `Metrics` that fill a metric, and of which kind it then is."""
SPECS = {spec.name: spec for spec in METRICS}


@dataclass(frozen=True)
class Use:
    """One place in the code that fills metrics; `name` is a pattern."""

    place: str
    method: str
    name: str
    labels: frozenset[str] | None


def _uses() -> Iterator[Use]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "metrics" not in (text := path.read_text()):
                continue
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Call) and (use := _use(path, node)):
                    yield use


def _use(path: Path, call: ast.Call) -> Use | None:
    if isinstance(call.func, ast.Attribute) and call.func.attr in KIND:
        owner, method = ast.unparse(call.func.value), call.func.attr
        if not owner.endswith("metrics") and owner != "self":
            return None
    elif isinstance(call.func, ast.Name) and call.func.id == "put":  # monitor.judge.gauges
        method = "set"
    else:
        return None
    name = _pattern(call.args[0]) if call.args else None
    if name is None:
        return None
    given = [keyword.arg for keyword in call.keywords]
    labels = None if None in given else frozenset(each for each in given if each)
    return Use(f"{path.relative_to(ROOT)}:{call.lineno}", method, name, labels)


def _pattern(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.escape(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            re.escape(str(part.value)) if isinstance(part, ast.Constant) else r"\w+"
            for part in node.values
        )
    return None


USES = list(_uses())


def _known(use: Use) -> list[str]:
    return [name for name in SPECS if re.fullmatch(use.name, name)]


@pytest.mark.parametrize("name", SPECS)
def test_every_metric_is_set_somewhere(name: str) -> None:
    assert any(re.fullmatch(use.name, name) for use in USES), "nobody sets it: remove it"


def test_what_the_code_sets_is_in_the_list_with_its_kind_and_labels() -> None:
    assert len(USES) > 50
    for use in USES:
        found = _known(use)
        assert found, f"{use.place}: {use.name} is not in the list"
        for name in found:
            assert SPECS[name].kind == KIND[use.method], use.place
            if use.labels is not None:
                assert use.labels == set(SPECS[name].labels), use.place


def test_names_carry_their_unit_and_no_metric_comes_twice() -> None:
    assert len(SPECS) == len(METRICS)
    for spec in METRICS:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", spec.name)
        assert not re.search(r"_(ms|us|millis|minutes|hours|days|kb|mb|total)(_|$)", spec.name)
        assert spec.text
        assert (spec.kind == "histogram") == bool(spec.buckets)
        assert "service" not in spec.labels, "Metrics adds it"


@pytest.mark.parametrize("service", FROM_START)
def test_the_linter_accepts_what_a_service_shows_at_its_start(service: str) -> None:
    answer = promtool("check", "metrics", text=_filled(service).exposition().decode())
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


def test_the_linter_sees_a_bad_name() -> None:
    text = "# HELP fraud_delay_milliseconds x\n# TYPE fraud_delay_milliseconds counter\n"
    answer = promtool("check", "metrics", text=text + "fraud_delay_milliseconds 1\n")
    assert "_total" in answer.stderr
    assert "base unit" in answer.stderr


def _filled(service: str) -> Metrics:
    """Return metrics of which every one has a series."""
    metrics = Metrics(service)
    for spec in METRICS:
        labels = dict.fromkeys(spec.labels, "x")
        if spec.kind == "counter":
            metrics.count(spec.name, 1, **labels)
        elif spec.kind == "gauge":
            metrics.set(spec.name, 1, **labels)
        else:
            metrics.observe(spec.name, 1, **labels)
    return metrics


@pytest.mark.parametrize("service", FROM_START)
def test_series_from_the_start_are_in_the_list(service: str) -> None:
    shown = {(name, *sorted(labels.items())) for name, labels in FROM_START[service]}
    assert len(shown) == len(FROM_START[service]), "a series is there twice"
    for name, labels in FROM_START[service]:
        assert set(labels) == set(SPECS[name].labels), name
    assert ("ready",) in shown


def test_a_process_tells_what_it_is_and_what_it_uses() -> None:
    found = {name: labels for name, labels, _ in read_exposition(_text("scorer"))}
    assert set(found["fraud_build_info"]) == {"service", "version", "python", "catalogue"}
    for name in ("cpu_seconds_total", "resident_memory_bytes", "open_fds", "start_time_seconds"):
        assert f"process_{name}" in found


def test_errors_of_kafka_clients_are_counted_for_the_process() -> None:
    metrics = Metrics("scorer")
    errors.report("_TRANSPORT")
    errors.report("_TRANSPORT")
    found = {
        labels["error"]: value
        for name, labels, value in read_exposition(metrics.exposition().decode())
        if name == "fraud_kafka_errors_total"
    }
    assert found["_TRANSPORT"] == 2
    assert found["_ALL_BROKERS_DOWN"] == 0


def _text(service: str) -> str:
    return Metrics(service).exposition().decode()


def test_the_fields_that_may_be_unread_have_a_series_from_the_start() -> None:
    assert CONTEXT_FIELDS == CONTEXT
