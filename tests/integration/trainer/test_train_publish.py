"""`trainer train --publish` against a real Kafka: the champion it meets, the stages it gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from devstack.stack import Stack
from runtime.kafka.reader import read_all
from schemas.codec import avro
from schemas.topics import MODELS
from tests.support.pipeline import Pipeline
from tests.unit.trainer.test_bootstrap import MAPPING, history
from trainer.__main__ import app

GATES = """alert_rate: {most: 0.5}
latency: {most_us: 1000000}
fairness: {most_difference: 0.5}
"""


def test_a_model_is_compared_with_who_serves_and_put_at_its_stage(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyarrow.parquet.write_table(history(8000), tmp_path / "day.parquet")
    (tmp_path / "map.yaml").write_text(MAPPING)
    (tmp_path / "gates.yaml").write_text(GATES)

    def train(model_id: str, *options: str) -> dict[str, Any]:
        result = CliRunner().invoke(
            app,
            [
                "train", "--input", str(tmp_path / "day.parquet"),
                "--mapping", str(tmp_path / "map.yaml"), "--gates", str(tmp_path / "gates.yaml"),
                "--output", str(tmp_path / "models"), "--state", str(tmp_path / "state"),
                "--label-delay-days", "2", "--rounds", "20", "--model-id", model_id,
                "--json", str(tmp_path / "run.json"), "--publish", *options,
            ],
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        report: dict[str, Any] = json.loads((tmp_path / "run.json").read_text())
        return report

    with Pipeline(stack, tmp_path / "logs") as pipeline:
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        for name, value in pipeline.environment.items():
            monkeypatch.setenv(name, value)
        first = train("one", "--stage", "CHAMPION")
        assert (first["champion_id"], first["stages"]) == (None, ["REGISTERED", "CHAMPION"])
        second = train("two", "--stage", "CANARY", "--share", "0.2")
        assert (second["champion_id"], second["stages"]) == ("one", ["REGISTERED", "CANARY"])
        third = train("three", "--stage", "CHAMPION", "--approval")
        assert (third["champion_id"], third["stages"]) == ("one", ["REGISTERED"])
        settings = pipeline.settings
        events = [
            avro.decode(message.value)[1]
            for message in read_all(settings, settings.topic(MODELS))
            if message.value is not None
        ]
    last: dict[str, Any] = {event["model_id"]: event for event in events}  # type: ignore[typeddict-item,misc]
    stages = {name: (event["stage"], event["canary_share"]) for name, event in last.items()}
    assert stages == {
        "one": ("CHAMPION", None), "two": ("CANARY", 0.2), "three": ("REGISTERED", None),
    }  # fmt: skip
    assert last["two"]["sha256"] == second["sha256"]
