"""What a person sees while a run goes on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loadtest.demo.view import why
from loadtest.deploy.exposition import label_values, read_metrics, stage_costs, total
from loadtest.measure.view import line
from loadtest.measure.watch import RunWatch
from loadtest.traffic.answers import read_answers
from loadtest.traffic.ledger import Ledger
from loadtest.traffic.receiver import ReceiverReport
from runtime.health import HealthServer
from runtime.metrics import Metrics
from schemas.keys import hash_id
from tests.unit.loadtest.test_ledger import REASON, Run, decision

MS = 1_000_000


class Flow:
    """As much of a Traffic as a watch reads."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger


def report(messages: list[bytes], seen: int) -> ReceiverReport:
    return ReceiverReport(read_answers(messages, seen), messages)


def noted(run: Run, watch: RunWatch, messages: list[bytes], seen: int) -> None:
    found = report(messages, seen)
    watch.note(found, run.ledger.received(found.answers))


def test_rates_latencies_and_mix_are_of_what_came_since_the_last_look() -> None:
    run, watch = Run(), RunWatch()
    flow: Any = Flow(run.ledger)
    watch.look(flow, now=20 * MS)
    messages = [decision(row) for row in run.rows[:100]]
    messages[:25] = [decision(row, decision="BLOCK") for row in run.rows[:25]]
    noted(run, watch, messages, seen=30 * MS)
    glance = watch.look(flow, now=1_020 * MS)
    assert glance.decided_per_s == pytest.approx(100.0)
    assert glance.p99_ms == pytest.approx(20.0)
    assert glance.waiting == len(run.rows) - 100
    assert glance.mix == {"approve": 0.75, "review": 0.0, "block": 0.25}
    assert "100" in line(glance)
    assert np.isnan(watch.look(flow, now=2_020 * MS).p99_ms)


def test_the_newest_blocks_come_first_with_their_reasons() -> None:
    run, watch = Run(), RunWatch()
    rows = run.rows[:10]
    noted(run, watch, [decision(row, decision="REVIEW") for row in rows[:1]], 0)
    for row in rows:
        noted(run, watch, [decision(row, decision="BLOCK", reasons=[REASON])], 0)
    assert watch.blocks == 10
    assert [each["transaction_id"] for each in watch.newest] == [
        row["transaction_id"] for row in rows[:1:-1]
    ]
    assert why(watch.newest[0]) == ["because"]


def test_a_model_is_noticed_when_it_begins_to_decide_also_again() -> None:
    run, watch = Run(), RunWatch()
    noted(run, watch, [decision(row) for row in run.rows[:3]], seen=5)
    noted(run, watch, [decision(run.rows[3]), decision(run.rows[4], model_id="next")], seen=9)
    noted(run, watch, [decision(run.rows[5], model_id=None)], seen=11)
    assert [seen for seen, _ in watch.models] == [5, 9]
    noted(run, watch, [decision(run.rows[6], model_id="next")], seen=13)
    noted(run, watch, [decision(run.rows[7], model_id="next")], seen=15)
    assert watch.models[1:] == [(9, hash_id("next")), (13, hash_id("next"))]


def test_an_unreadable_message_is_passed_over() -> None:
    run, watch = Run(), RunWatch()
    noted(run, watch, [b"junk", decision(run.rows[0], decision="BLOCK")], seen=5)
    assert watch.blocks == 1


def test_metrics_of_a_kind_are_added_and_the_silent_left_out() -> None:
    one, two = Metrics("stream"), Metrics("stream")
    with HealthServer(0, one, lambda: "") as first, HealthServer(0, two, lambda: "") as second:
        ports = {"stream-1": first.port, "stream-2": second.port, "scorer-1": 1}
        one.observe("stage_seconds", 0.5, stage="commit")
        before = read_metrics(ports)
        for metrics in (one, two):
            metrics.observe("stage_seconds", 0.25, stage="commit")
            metrics.set("lag", 3, topic="transactions", partition="0")
            metrics.set("model_info", 1, model_id="m7", role="CHAMPION")
        after = read_metrics(ports)
    assert [tuple(each) for each in stage_costs(before, after)] == [("stream", "commit", 0.5)]
    assert total(after, "stream", "fraud_lag") == 6
    assert label_values(after, "stream", "fraud_model_info", "model_id") == ["m7"]
    assert label_values(after, "scorer", "fraud_model_info", "model_id") == []
