"""Small pieces of the simulation: its plan, when labels come, what is counted, what breaks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import typer
from typer.testing import CliRunner

from runtime.clock import ManualClock
from runtime.kafka.protocols import Message
from runtime.settings import load_settings
from schemas.codec import avro
from schemas.currency import CurrencyTable
from schemas.errors import ConfigurationError
from schemas.features import DAY, HOUR
from schemas.manifest import MANIFEST_NAME, read_verified, sha256
from schemas.topics import DECISIONS, MODELS
from simulation import story
from simulation.__main__ import app
from simulation.label_desk import VERDICT, LabelDesk
from simulation.share import Share, growth
from simulation.simulated_monitor import SimulatedMonitor
from simulation.simulated_trainer import broken
from simulation.simulated_world import SimulatedWorld
from simulation.simulation_plan import WARM_UP_DAYS, SimulationPlan, SimulationScenario
from simulation.tally import Tally
from tests.support.monitor.traffic import START as TRAFFIC_START
from tests.support.monitor.traffic import bundle, decision_message, model_event, scores
from trainer.commands.run import checked
from trainer.commands.train import train
from trainer.service.process import command

START = 1_700_000_000_000 // DAY * DAY


def world(
    *, hours: list[float], fraud: list[bool], pattern: list[bool], **changes: Any
) -> SimulatedWorld:
    time = START + (np.array(hours) * HOUR).astype(np.int64)
    ids = pa.chunked_array([[str(n) for n in range(len(hours))]])
    given: dict[str, Any] = {
        "label": np.array(fraud),
        "label_time": time + 10 * HOUR,
        "verdict_time": time + HOUR,
    }
    return SimulatedWorld(
        messages=pa.array([b""] * len(hours), pa.binary()),
        transaction_id=ids,
        card_id=ids,
        time=time,
        fraud=np.array(fraud),
        pattern=np.array(pattern),
        **(given | changes),
    )


def test_the_onset_lies_within_the_days() -> None:
    plan = SimulationPlan(scenario=SimulationScenario.DRIFT, days=9, history_days=20)
    assert (plan.onset, plan.world_days) == (3, WARM_UP_DAYS + 29)
    assert plan.onset_ms == plan.start + 3 * DAY == plan.end - 6 * DAY
    with pytest.raises(ConfigurationError, match="onset on day 9"):
        SimulationPlan(scenario=SimulationScenario.DRIFT, days=9, onset_day=9)
    assert CliRunner().invoke(app, ["run", "--scenario", "none"]).exit_code != 0


def test_a_report_that_cannot_be_written_is_refused_before_the_days_are_played(
    tmp_path: Path,
) -> None:
    words = ["run", "--json", str(tmp_path / "nowhere" / "report.json")]
    refused = CliRunner().invoke(app, [*words, "--keep", str(tmp_path / "kept")])
    assert isinstance(refused.exception, ConfigurationError)
    assert "there is no folder" in str(refused.exception)
    assert not (tmp_path / "kept").exists()


def test_the_budget_of_alerts_is_that_of_the_service() -> None:
    targets = SimulationPlan(scenario=SimulationScenario.DRIFT).targets
    words = command(load_settings(), "archive", Path("s"), Path("o"), "run-1", [])
    assert float(words[words.index("--most-false") + 1]) == targets.max_false == 0.0004
    given = checked(["--most-false", "0.5"])
    words = command(load_settings(), "archive", Path("s"), Path("o"), "run-1", given)
    probe = typer.Typer(add_completion=False)
    probe.command()(train)
    found = typer.main.get_command(probe).make_context("train", words[4:]).params
    assert (found["max_false"], found["early"]) == (0.5, True), "what the operator gives wins"


def test_reports_and_verdicts_come_in_order_and_not_while_labels_are_out() -> None:
    made = world(hours=[0, 1, 2], fraud=[True, False, True], pattern=[False] * 3)
    desk = LabelDesk(made)
    desk.alerted(np.array([1, 2]))
    first = desk.until(START + 3 * HOUR)
    assert first.rows.tolist() == [1, 2]
    assert (first.fraud.tolist(), first.source) == ([False, True], [VERDICT, VERDICT])
    assert (first.known - START).tolist() == [2 * HOUR, 3 * HOUR]
    assert desk.until(START + 20 * HOUR).rows.tolist() == [0, 2]  # the reports
    assert len(desk.until(START + 30 * HOUR)) == 0
    silent = LabelDesk(made, (START, START + 15 * HOUR))
    assert len(silent.until(START + 14 * HOUR)) == 0
    assert silent.until(START + 15 * HOUR).rows.tolist() == [0, 2]


def test_figures_by_hand() -> None:
    made = world(
        hours=[0.1, 0.2, 0.3, 0.4, 1.5, 1.6, 30.0],
        fraud=[True, True, False, False, True, False, True],
        pattern=[True, True, False, False, True, False, False],
    )
    tally = Tally(made)
    assert tally.recall(START, START + DAY, pattern=True) is None  # nothing is decided yet
    action = np.array([2, 0, 1, 0, 1, 0, 0], np.uint8)
    alerted = tally.note(range(7), action, np.ones(7, np.uint8))
    assert alerted.tolist() == [0, 2, 4]
    assert tally.recall_by_hour(START) == {
        "0": {"frauds": 2, "recall": 0.5},
        "1": {"frauds": 1, "recall": 1.0},
    }
    assert tally.recall(START, START + 2 * DAY, pattern=False) == 0.0
    assert tally.genuine_alerted(START, START + DAY) == Share(1, 3)
    assert tally.genuine_alerted(START + DAY, START + DAY) == Share(0, 0)
    assert tally.precision(START, START + DAY) == pytest.approx(2 / 3)
    assert tally.precision(START, START + 2 * HOUR) == 0.5  # the third is not settled yet
    assert tally.precision_by_hour(START, START + 3 * HOUR) == {"1": 0.5, "2": 0.6667}


def test_a_growth_of_few_alerts_has_a_wide_interval() -> None:
    few = growth(Share(4, 20_000), Share(12, 20_000))
    many = growth(Share(400, 2_000_000), Share(1_200, 2_000_000))
    assert few is not None
    assert many is not None
    assert few["value"] == many["value"] == pytest.approx(3.0)
    assert few["low"] < 1.2 < 2.6 < many["low"]
    assert few["high"] > 8 > 3.4 > many["high"]
    assert growth(Share(0, 100), Share(1, 100)) is None
    assert Share(0, 0).document() == {"count": 0, "of": 0, "share": None, "low": 0.0, "high": 1.0}


def test_a_broken_bundle_loads_but_its_calibration_is_over_log_odds(tmp_path: Path) -> None:
    good = tmp_path / "good"
    good.mkdir()
    (good / "calibration.json").write_text(json.dumps({"x": [0.1, 0.5, 0.9], "y": [0.0, 0.2, 1.0]}))
    (good / MANIFEST_NAME).write_text("{}")
    bad = broken(good, "bad")
    manifest, files = read_verified(bad, sha256((bad / MANIFEST_NAME).read_bytes()))
    knots = json.loads(files["calibration.json"])
    assert manifest.model_id == bad.name == "bad"
    assert knots["x"] == pytest.approx([-2.1972, 0.0, 2.1972], abs=1e-4)
    assert np.interp(0.001, knots["x"], knots["y"]) > 0.19  # was 0


def test_the_monitor_rolls_a_canary_back_on_the_clock_of_the_simulation(tmp_path: Path) -> None:
    draw, clock = np.random.default_rng(1), ManualClock(TRAFFIC_START)
    plan = SimulationPlan(scenario=SimulationScenario.BAD_MODEL)
    monitor = SimulatedMonitor(plan, clock, CurrencyTable())
    champion, canary = tmp_path / "champion", tmp_path / "canary"
    for directory, event in (
        (champion, model_event(champion, bundle(champion, "champion"), "CHAMPION", TRAFFIC_START)),
        (canary, model_event(canary, bundle(canary, "canary"), "CANARY", TRAFFIC_START, 0.1)),
    ):
        key = directory.name.encode()
        monitor.receive([Message(MODELS.name, 0, 0, TRAFFIC_START, key, event)])
    decisions = [
        decision_message(n, score, TRAFFIC_START, "champion")
        if n % 10
        else decision_message(n, 0.99, TRAFFIC_START, "canary")
        for n, score in enumerate(scores(draw, 1_000).tolist())
    ]
    monitor.receive(
        [Message(DECISIONS.name, 0, 0, TRAFFIC_START, None, value) for value in decisions]
    )
    clock.advance(60_000)
    produced = monitor.due()
    assert [each.topic for each in produced] == ["models", "alerts"]
    rolled: Any = avro.decode(produced[0].value)[1]
    assert produced[0].key == b"canary"
    assert (rolled["model_id"], rolled["stage"], rolled["actor"], rolled["canary_share"]) == (
        "canary", "ROLLED_BACK", "monitor", None,
    )  # fmt: skip
    assert rolled["artefact_uri"] == canary.as_uri()
    assert rolled["occurred_at"] == TRAFFIC_START + 60_000
    clock.advance(60_000)
    assert monitor.due() == [], "it has seen its own rollback"


def test_the_table_shows_both_sides() -> None:
    found: dict[str, Any] = dict.fromkeys(story.SHOWN) | {
        "scenario": "drift", "learning": True, "precision_after": 0.9,
        "alert_rate_growth": {"value": 1.1, "low": 0.9, "high": 1.34},
        "timeline": [{"at": "2025-05-10T00:00:00+00:00", "event": "onset", "detail": "now"}],
    }  # fmt: skip
    found["without_learning"] = {**found, "precision_after": 0.4, "alert_rate_growth": None}
    timeline, figures = story.tables(found)
    assert (timeline.row_count, figures.row_count) == (1, 2)
    cells = [list(column.cells) for column in figures.columns][1:]
    assert cells == [["90.0%", "1.10 (0.90 to 1.34)"], ["40.0%", "-"]]
