"""The report has every promised key, its figures follow from the ledger, bounds are held to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadtest.deploy.deployment import Target
from loadtest.deploy.exposition import StageCost
from loadtest.measure import bounds, gateway, page, report
from loadtest.measure.gateway_account import Exchange, GatewayAccount
from loadtest.measure.latency import percentiles_ms
from loadtest.measure.measured_run import by_model
from loadtest.measure.recovery import back_to_normal
from loadtest.measure.swap import Swap, Swapped, effect, rehearsal
from loadtest.traffic.answers import Answers
from loadtest.traffic.ledger import Ledger
from loadtest.traffic.sender import Order
from loadtest.traffic.traffic import Phase
from schemas.errors import ConfigurationError
from schemas.keys import hash_id

SECOND = 1_000_000_000
START = 100 * SECOND


def answers(identity: Any, seen: Any) -> Answers:
    n = len(identity)
    nothing = np.zeros(n, np.int64)
    return Answers(
        np.asarray(identity, np.uint64), np.ones(n, np.uint64), np.ones(n, np.uint64),
        np.zeros(n, np.int8), np.zeros(n, np.bool_),
        nothing, nothing, nothing, np.asarray(seen, np.int64),
    )  # fmt: skip


def measured(rate: float, seconds: float, latency: Any) -> tuple[Ledger, Phase]:
    """A phase of evenly spaced transactions; `latency` (ns) from their due times, None if lost."""
    n = int(rate * seconds)
    due = START + (np.arange(n) * SECOND / rate).astype(np.int64)
    ledger = Ledger(wall_offset_ns=0)
    ledger.sent(np.arange(1, n + 1).astype(np.uint64), due)
    took = np.array([latency(at) for at in due - START])
    kept = took >= 0
    ledger.received(answers(np.arange(1, n + 1)[kept], (due + took)[kept]))
    return ledger, Phase(Order(rate=rate, seconds=seconds), 0, n, started=START, seconds=seconds)


def test_every_promised_key_is_there_and_json() -> None:
    ledger, phase = measured(100, 2, lambda at: 3_000_000)
    found = report.build(
        "run", ledger, phase, last_answer=START + 2 * SECOND,
        costs=[StageCost("stream", "compute", 0.002)],
        processes={"kafka": {"cpu_s": 1.0, "cpu_share": 0.5, "rss_mb": 300.0}},
    )  # fmt: skip
    assert set(report.KEYS) <= json.loads(json.dumps(found)).keys()
    assert (found["sent"], found["decided"], found["lost"]) == (200, 200, 0)
    assert found["throughput_per_s"] == 100.0
    assert found["p50_ms"] == pytest.approx(3.0, rel=0.01)
    assert found["stages"]["stream.compute"] == {"us_per_event": 10.0}
    assert {"mean_ms", "p50_ms", "p99_ms"} == found["stages"]["decision_to_receiver"].keys()
    assert found["machine"]["cores"] >= 1
    assert report.failures(found) == []
    assert len(report.summary(found)) == 3


def test_what_is_lost_is_a_failure() -> None:
    ledger, phase = measured(100, 2, lambda at: -1 if at == 0 else 3_000_000)
    found = report.build("run", ledger, phase, last_answer=START + SECOND)
    assert report.failures(found) == ["lost: 1"]


def test_nothing_decided_is_a_failure_with_a_whole_report() -> None:
    ledger, phase = measured(100, 1, lambda at: -1)
    found = report.build("run", ledger, phase, last_answer=START)
    assert found["p99_ms"] is None
    assert "nothing was decided" in report.failures(found)


def test_percentiles_are_of_what_was_answered() -> None:
    latency = np.concatenate([np.arange(1, 1001) * 1_000_000, [-1, -1]])
    found = percentiles_ms(latency)
    assert found["p50_ms"] == pytest.approx(500, rel=0.01)
    assert found["p99_ms"] == pytest.approx(990, rel=0.01)
    assert found["max_ms"] == 1000.0


def test_bounds_apply_to_the_runs_they_name(tmp_path: Path) -> None:
    path = tmp_path / "bounds.json"
    path.write_text(
        json.dumps(
            [
                {"command": "run", "when": {"rate": 1000}, "figure": "p99_ms", "at_most": 20},
                {"command": "max", "figure": "throughput_per_s", "at_least": 15000},
            ]
        )
    )
    good = {"command": "run", "rate": 1000, "p99_ms": 12.0}
    assert bounds.check(good, path) == (["p99_ms 12.0 (at most 20)"], [])
    assert bounds.check(good | {"p99_ms": 21.0}, path)[1] == ["p99_ms 21.0 (at most 20)"]
    assert bounds.check(good | {"p99_ms": None}, path)[1] == ["p99_ms None (at most 20)"]
    slow = {"command": "max", "throughput_per_s": 14_999.0}
    assert bounds.check(slow, path)[1] == ["throughput_per_s 14999.0 (at least 15000)"]
    with pytest.raises(ConfigurationError, match="no bound"):
        bounds.check(good | {"rate": 5}, path)


def test_the_shipped_bounds_name_figures_of_reports() -> None:
    ledger, phase = measured(2_000, 3, lambda at: 1_000_000)
    found = report.build("run", ledger, phase, last_answer=START + SECOND)
    of_runs = (
        set(found)
        | set(back_to_normal(ledger, phase, START))
        | set(effect(ledger, phase, [Swapped("m", START + SECOND, None)]))
    )
    figures = {
        "run": of_runs,
        "max": of_runs,
        "gateway": set(gateway_report()),
        "page": set(page.build_report(400.0, 60.0, [])),
    }
    for bound in json.loads(bounds.BOUNDS.read_text()):
        assert bound["figure"] in figures[bound["command"]]
        assert set(bound.get("when", {})) <= figures[bound["command"]] | {
            "rate",
            "swapped",
            "queued",
        }
        assert ("at_most" in bound) != ("at_least" in bound)


def gateway_report(
    connections: int = 16, batch: int = 0, *, took_ms: float = 3.0, status: int = 200
) -> dict[str, Any]:
    """Return the report of a second in which 10,000 transactions were answered."""
    plan = gateway.GatewayRunPlan(
        target=Target(data=Path()), connections=connections, seconds=1.0, batch=batch
    )
    body = json.dumps({"fallback": True}).encode()
    exchanges = [
        Exchange(f"t-{number}", 1, 1 + round(took_ms * 1e6), status, body)
        for number in range(10_000)
    ]
    return gateway.build_report(plan, GatewayAccount(exchanges), {}, 1.0, {})


@pytest.mark.parametrize(("connections", "batch"), [(1, 0), (16, 0), (2, 5_000)])
def test_the_gateways_bounds_hold_and_break(connections: int, batch: int) -> None:
    good = gateway_report(connections, batch)
    kept, broken = bounds.check(good)
    assert (len(kept) >= 2, broken) == (True, [])
    assert bounds.check(gateway_report(connections, batch, status=503))[1]
    slow = gateway_report(connections, batch, took_ms=70.0) | {"throughput_per_s": 900.0}
    assert len(bounds.check(slow)[1]) == len(kept) - 1
    with pytest.raises(ConfigurationError, match="no bound"):
        bounds.check(gateway_report(3))


@pytest.mark.parametrize(("load_ms", "wrong"), [(400.0, 0), (1_200.0, 1), (-5.0, 1)])
def test_the_pages_bounds_hold_and_break(load_ms: float, wrong: int) -> None:
    assert len(bounds.check(page.build_report(load_ms, 60.0, []))[1]) == wrong


def test_back_to_normal_is_when_latency_came_down() -> None:
    ledger, phase = measured(
        1_000, 12, lambda at: 3 * SECOND - at if at < 2.9 * SECOND else 4_000_000
    )
    found = back_to_normal(ledger, phase, START - SECOND)
    assert found["back_to_normal_s"] == pytest.approx(4.0, abs=0.5)  # since one second earlier
    assert found["normal_p99_ms"] == pytest.approx(4.0, rel=0.01)


def test_never_back_to_normal_when_the_end_is_lost() -> None:
    ledger, phase = measured(1_000, 6, lambda at: -1 if at > SECOND else 4_000_000)
    assert back_to_normal(ledger, phase, START)["back_to_normal_s"] is None


def test_the_swaps_worst_second_is_found() -> None:
    stall = (5.2 * SECOND, 5.4 * SECOND)
    ledger, phase = measured(
        500, 10, lambda at: 9_000_000 if stall[0] <= at < stall[1] else 3_000_000
    )
    swap = Swapped("m", START + 5 * SECOND, START + int(5.3 * SECOND))
    found = effect(ledger, phase, [swap])
    assert found["p99_before_ms"] == pytest.approx(3.0)
    assert found["p99_in_swap_ms"] == pytest.approx(9.0)
    assert found["p99_in_swap_ratio"] == pytest.approx(3.0)
    assert found["p99_after_ms"] == pytest.approx(3.0)


def test_of_several_swaps_the_worst_counts_and_all_that_lies_between() -> None:
    ledger, phase = measured(
        500, 12, lambda at: 9_000_000 if 6 * SECOND <= at < 6.02 * SECOND else 3_000_000
    )
    swaps = [
        Swapped(name, START + at * SECOND, START + at * SECOND + SECOND // 5)
        for name, at in (("b", 4), ("a", 6), ("b", 8))
    ]
    found = effect(ledger, phase, swaps)
    assert [swap["p99_in_swap_ms"] > 3.5 for swap in found["swaps"]] == [False, True, False]
    assert found["p99_in_swap_ms"] == found["swaps"][1]["p99_in_swap_ms"]
    assert found["p99_while_swapping_ms"] == pytest.approx(3.0)  # 10 of 2,600 were late
    assert (found["published_s"], found["applied_s"]) == (4.0, 4.2)
    assert (found["p99_after_ms"], found["swaps_applied"]) == (pytest.approx(3.0), 3)


def test_a_swap_that_no_decision_shows_or_a_decision_without_a_model_is_a_failure() -> None:
    ledger, phase = measured(100, 2, lambda at: 3_000_000)
    whole = report.build("run", ledger, phase, last_answer=START + SECOND)
    ledger.forget_mix()
    ledger.models.update({hash_id("a"): 5, hash_id("b"): 3, 0: 2})
    found = by_model(ledger, ["a"])
    assert found == {"decisions_by_model": {"a": 5}, "by_other_models": 3, "by_no_model": 2}
    swapped = effect(ledger, phase, [Swapped("a", START, None)])
    assert report.failures({**whole, **found, **swapped, "swapped": True}) == [
        "decisions without a model: 2",
        "swaps applied: 0 of 1",
    ]


@pytest.mark.parametrize(
    ("measured", "warm_up_s", "rehearsed"),
    [(10, 45.0, 10), (1, 45.0, 2), (3, 45.0, 4), (10, 10.0, 4), (10, 4.0, 0), (1, 0.0, 0)],
)
def test_a_warm_up_rehearses_the_swaps_that_fit_and_ends_with_the_first_champion(
    measured: int, warm_up_s: float, rehearsed: int
) -> None:
    swap = Swap(8.0, (Path("other"), Path("champion")), measured, 2.0)
    assert rehearsal(swap, warm_up_s) == Swap(0.0, swap.models, rehearsed, 2.0)
