"""The load test's commands on the real stack: nothing is lost, and the report says so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from devstack.stack import Stack
from loadtest.measure.report import KEYS
from loadtest.world.history import MAPPING
from loadtest.world.world import World, parse_day
from runtime.kafka.reader import read_all
from runtime.settings import load_settings
from schemas.codec import avro
from schemas.topics import DECISIONS
from tests.support.scorer.stand_ins import small_bundle
from tests.support.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]


def loadtest(stack: Stack, prefix: str, tmp_path: Path, *args: str) -> dict[str, Any]:
    """Run a command against the shared stack and return its report."""
    path = tmp_path / "report.json"
    place = ["--bootstrap", stack.bootstrap, "--redis", stack.redis_url, "--prefix", prefix]
    done = subprocess.run(
        [sys.executable, "-m", "loadtest", *args, *place, "--json", str(path)],
        cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(path.read_text())
    assert set(KEYS) <= report.keys()
    assert (report["lost"], report["duplicated"], report["conflicting"]) == (0, 0, 0)
    assert report["sent"] == report["decided"]
    assert report["unknown"] == 0
    return report


def test_the_bare_echo_answers_everything(stack: Stack, tmp_path: Path) -> None:
    report = loadtest(stack, "lt-echo-", tmp_path, "limit", "--count", "20000", "--seconds", "1")
    assert report["measured"]["decided"] == 20_000
    assert report["throughput_per_s"] > 1_000
    assert {"echo-1", "echo-2", "sender", "receiver"} <= report["processes"].keys()


def test_the_services_answer_everything(stack: Stack, tmp_path: Path) -> None:
    report = loadtest(
        stack, "lt-run-", tmp_path,
        "run", "--rate", "500", "--seconds", "5", "--warm-up", "1", "--no-model",
    )  # fmt: skip
    assert report["measured"]["sent"] == 2_500
    assert sum(report["decisions"].values()) == 2_500
    assert report["dead_letters"] == 0
    assert report["p50_ms"] > 0
    assert report["stages"]["stream"]["p50_ms"] > 0
    assert {"stream-1", "scorer-1", "sender", "receiver"} <= report["processes"].keys()


def test_champions_change_in_turn_beside_a_shadow_and_every_decision_names_one(
    stack: Stack, tmp_path: Path
) -> None:
    bundles = {name: tmp_path / name for name in ("first", "next", "watching")}
    for seed, (name, directory) in enumerate(bundles.items()):
        small_bundle(directory, name, seed=seed)
    report = loadtest(
        stack, "lt-swap-", tmp_path,
        "run", "--rate", "300", "--seconds", "8", "--warm-up", "1", "--customers", "1000",
        "--model", str(bundles["first"]), "--shadow", str(bundles["watching"]),
        "--swap-at", "1", "--swap-to", str(bundles["next"]), "--swaps", "3", "--swap-every", "1.5",
    )  # fmt: skip
    assert report["swaps_applied"] == 3
    assert [swap["model_id"] for swap in report["swaps"]] == ["next", "first", "next"]
    assert (report["by_no_model"], report["by_other_models"]) == (0, 0)
    counts = report["decisions_by_model"]
    assert counts.keys() == {"first", "next"}
    assert min(counts.values()) > 100
    assert sum(counts.values()) == report["measured"]["decided"] == 2_400
    settings = load_settings(bootstrap=stack.bootstrap, topic_prefix="lt-swap-")
    decisions = read_all(settings, settings.topic(DECISIONS))
    watched = {
        tuple(shadow["model_id"] for shadow in avro.decode(message.value or b"")[1]["shadows"])
        for message in decisions
    }
    assert watched == {("watching",)}


def test_a_backlog_comes_while_the_services_are_away(stack: Stack, tmp_path: Path) -> None:
    report = loadtest(
        stack, "lt-queued-", tmp_path,
        "run", "--rate", "200", "--seconds", "3", "--warm-up", "1", "--customers", "400",
        "--no-model", "--queued", "300",
    )  # fmt: skip
    assert (report["sent"], report["decided"], report["lost"]) == (1_100, 1_100, 0)
    assert report["measured"]["sent"] == 600
    assert "back_to_normal_s" in report


def test_a_file_is_replayed_with_its_labels(stack: Stack, tmp_path: Path) -> None:
    day = World(400, seed=3).day(parse_day("2025-03-03"))
    pq.write_table(day, tmp_path / "day.parquet")
    report = loadtest(
        stack, "lt-file-", tmp_path,
        "run", "--input", str(tmp_path / "day.parquet"), "--mapping", str(MAPPING),
        "--labels", "ahead", "--rate", "400", "--no-model", "--queued", "200", "--warm-up", "0",
    )  # fmt: skip
    assert report["sent"] == day.num_rows
    assert report["queued"] == 200
    assert report["labels_ahead"] == day.column("label").to_numpy().sum()
