"""Commands that put policies and models on their topics, run as people run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet
import pytest

from devstack.stack import Stack
from schemas.features import FINGERPRINT
from schemas.manifest import MANIFEST_NAME, sha256
from schemas.topics import DECISIONS, FEATURES, MODELS
from tests.support.pipeline import Pipeline
from tests.support.scorer.stand_ins import LARGE, small_bundle, vector
from tests.support.waiting import PATIENCE_S
from tests.unit.trainer.test_bootstrap import MAPPING, history

RULE = {"id": "r", "action": "REVIEW", "when": "amount > 1", "text": "over one"}


class Bench:
    """Commands against topics of their own."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            capture_output=True, text=True, timeout=PATIENCE_S,
            env={**os.environ, **self.pipeline.environment, "COLUMNS": "200"},
        )  # fmt: skip


@pytest.fixture
def bench(stack: Stack, tmp_path: Path) -> Iterator[Bench]:
    with Pipeline(stack, tmp_path / "logs") as pipeline:
        yield Bench(pipeline)


def test_policy_is_checked_published_and_shown(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    shown = bench.run("scorer", "policy", "show")
    assert json.loads(shown.stdout)["version"] == "default"
    document = {"version": "v7", "rules": [RULE]}
    path.write_text(json.dumps(document))
    assert bench.run("scorer", "policy", "check", str(path)).returncode == 0
    published = bench.run("scorer", "policy", "publish", str(path), "--actor", "jane")
    assert published.returncode == 0, published.stderr
    shown = bench.run("scorer", "policy", "show")
    assert json.loads(shown.stdout) == document
    assert "jane" in shown.stderr
    path.write_text(json.dumps({"version": "v8", "rules": [{**RULE, "when": "amuont > 1"}]}))
    for command in ("check", "publish"):
        refused = bench.run("scorer", "policy", command, str(path))
        assert refused.returncode == 2
        assert "amuont" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert json.loads(bench.run("scorer", "policy", "show").stdout) == document


def test_a_bootstrapped_model_is_published_and_decides(bench: Bench, tmp_path: Path) -> None:
    pyarrow.parquet.write_table(history(), tmp_path / "day.parquet")
    (tmp_path / "map.yaml").write_text(MAPPING)
    done = bench.run(
        "trainer", "bootstrap", "--input", str(tmp_path / "day.parquet"),
        "--mapping", str(tmp_path / "map.yaml"), "--output", str(tmp_path / "models"),
        "--model-id", "first", "--label-delay-days", "2", "--rounds", "20", "--publish",
        "--json", "-",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    events = bench.pipeline.wait_for(MODELS, 2)
    assert [event["stage"] for event in events] == ["REGISTERED", "CHAMPION"]
    bundle = tmp_path / "models" / "first"
    digest = sha256((bundle / MANIFEST_NAME).read_bytes())
    for event in events:
        assert (event["sha256"], event["fingerprint"]) == (digest, FINGERPRINT)
        assert event["artefact_uri"] == report["artefact_uri"] == bundle.as_uri()
        assert event["metrics"]["auc"] == report["metrics"]["auc"]

    bench.pipeline.start("scorer")
    bench.pipeline.producer.produce(
        bench.pipeline.settings.topic(FEATURES), b"card", vector((0, 0), amount=LARGE), 0
    )
    (decision,) = bench.pipeline.wait_for(DECISIONS, 1)
    assert decision["model_id"] == "first"

    history_of = (
        "trainer", "backtest", "--input", str(tmp_path / "day.parquet"),
        "--mapping", str(tmp_path / "map.yaml"), "--label-delay-days", "2", "--json", "-",
    )  # fmt: skip
    replayed = bench.run(*history_of, "--model", "first")
    assert replayed.returncode == 0, replayed.stderr
    assert json.loads(replayed.stdout)["contenders"][0]["model_id"] == "first"
    unknown = bench.run(*history_of, "--model", "second")
    assert (unknown.returncode, "it has first" in unknown.stderr) == (2, True)

    canary = bench.run("trainer", "canary", "first", "--share", "0.1")
    assert canary.returncode == 2
    assert "first is CHAMPION and cannot become CANARY" in canary.stderr
    assert len(bench.pipeline.messages(MODELS)) == 2


def test_a_model_goes_through_its_stages_by_commands(bench: Bench, tmp_path: Path) -> None:
    for name in ("one", "two"):
        small_bundle(tmp_path / name, name)
    steps: list[tuple[str, ...]] = [
        ("register", str(tmp_path / "one")),
        ("promote", "one"),
        ("register", str(tmp_path / "two"), "--actor", "jane"),
        ("shadow", "two"),
        ("canary", "two", "--share", "0.05", "--actor", "joe", "--comment", "a [small] part"),
    ]
    for step in steps:
        done = bench.run("trainer", *step)
        assert done.returncode == 0, done.stderr
    shown = bench.run("trainer", "models", "--json", "-")
    one, two = json.loads(shown.stdout)
    assert (one["model_id"], one["stage"], one["actor"]) == ("one", "CHAMPION", "operator")
    assert two == {
        "model_id": "two",
        "stage": "CANARY",
        "share": 0.05,
        "since": two["since"],
        "actor": "joe",
        "comment": "a [small] part",
        "metrics": {"auc": 1.0},
        "artefact_uri": (tmp_path / "two").as_uri(),
        "sha256": sha256((tmp_path / "two" / MANIFEST_NAME).read_bytes()),
    }
    for part in ("two", "CANARY", "0.05", "auc 1.000", "joe", "a [small] part"):
        assert part in shown.stderr
    assert bench.run("trainer", "promote", "two").returncode == 0
    back = bench.run("trainer", "rollback", "two")
    assert "the champion is one" in back.stderr
    refused = bench.run("trainer", "promote", "two")
    assert refused.returncode == 2
    assert "two is ROLLED_BACK and cannot become CHAMPION" in refused.stderr
    assert "rules and its fallback decide alone" in bench.run("trainer", "retire", "one").stderr


def test_what_is_not_a_bundle_is_not_registered(bench: Bench, tmp_path: Path) -> None:
    refused = bench.run("trainer", "register", str(tmp_path))
    assert refused.returncode == 2
    assert "is not a bundle" in refused.stderr
    assert bench.pipeline.messages(MODELS) == []
