"""`python -m trainer run` on real Kafka, and training from the archive that was really written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from devstack.service_process import Service
from devstack.stack import Stack
from runtime.kafka.protocols import TopicPartition
from runtime.kafka.reader import committed_offsets
from schemas.codec import avro
from schemas.model_stages import ModelStates
from schemas.topics import FEATURES, LABELS, MODELS, RETRAIN_REQUESTS
from tests.support.pipeline import Pipeline
from tests.support.trainer.served_history import GATES, LABEL_DELAY_DAYS, messages
from tests.support.waiting import PATIENCE_S, until
from trainer.service.process import LOG_FILE
from trainer.service.requests import GROUP
from trainer.training import run_records

ROWS = 5_000


class Bench:
    """An archive of what was served, and services that train from it."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.folder, self.state = folder, folder / "trainer"
        self.pipeline = Pipeline(
            stack,
            folder / "logs",
            archive_url=str(folder / "archive"),
            archive_flush_after="100ms",
            label_delay=f"{LABEL_DELAY_DAYS}d",
            retrain_at="never",
            train_nice="0",
        )
        (folder / "gates.yaml").write_text(GATES)
        (folder / "bounds.yaml").write_text("leakage_auc: 0.99\n")  # frauds are that easy here

    def archive(self) -> dict[str, Any]:
        vectors, labels = messages(ROWS, self.pipeline.settings.partitions)
        topic = self.pipeline.settings.topic
        self.pipeline.producer.produce_many(topic(FEATURES), vectors)
        self.pipeline.producer.produce_many(topic(LABELS), labels)
        self.pipeline.producer.flush(30.0)
        return self.command("archive", "--once")

    def command(self, *words: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "trainer", *words, "--json", "-"],
            env={**os.environ, **self.pipeline.environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def service(self, name: str) -> Service:
        """Services of the same group member: the next one need not wait for the last one's end."""
        made = Service(
            name,
            ["-m", "trainer", "run", *self.options()],
            env={**self.pipeline.environment, "FRAUD_WORKER_ID": "trainer"},
            log_dir=self.pipeline.log_dir,
        )
        self.pipeline.services.append(made)
        made.start()
        return made

    def options(self) -> list[str]:
        return [
            "--state", str(self.state), "--output", str(self.folder / "models"), "--rounds", "20",
            "--gates", str(self.folder / "gates.yaml"),
            "--data-bounds", str(self.folder / "bounds.yaml"),
        ]  # fmt: skip

    def ask(self, reason: str) -> None:
        now = time.time_ns() // 1_000_000
        request = {"reason": reason, "detail": {}, "occurred_at": now}
        self.pipeline.send(RETRAIN_REQUESTS, reason, avro.encode("RetrainRequest", request))
        self.pipeline.producer.flush(30.0)

    def runs(self) -> list[run_records.RunRecord]:
        return [
            run_records.load(path)
            for path in sorted(self.state.glob(f"runs/*/{run_records.RUN_FILE}"))
        ]

    def logs(self) -> list[Path]:
        return sorted(self.state.glob(f"runs/*/{LOG_FILE}"))

    def registered(self) -> bool:
        found = self.runs()
        assert all(run.state in ("passed",) for run in found), found
        return bool(found) and all(run.stages for run in found)

    def stages(self) -> dict[str, str]:
        found = ModelStates.of((each.key, each.value) for each in self.pipeline.messages(MODELS))
        return {state.model_id: state.stage for state in found[0]}

    def committed(self) -> int | None:
        settings = self.pipeline.settings
        at = TopicPartition(settings.topic(RETRAIN_REQUESTS), 0)
        return committed_offsets(settings, settings.group(GROUP), [at]).get(at)


@pytest.fixture(scope="module")
def bench(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(stack, tmp_path_factory.mktemp("service"))
    with made.pipeline:
        report = made.archive()
        assert report["archived"]["features"] == ROWS
        yield made


def trainings() -> set[int]:
    found = set()
    for process in psutil.Process().children(recursive=True):
        try:
            if "--run-id" in process.cmdline():
                found.add(process.pid)
        except psutil.Error:
            continue
    return found


def test_a_request_is_answered_once_though_the_service_is_killed_in_mid_run(bench: Bench) -> None:
    first = bench.service("first")
    first.wait_ready()
    bench.ask("drift")
    until(lambda: bool(bench.logs()) and bool(trainings()), "a run under way")
    running = trainings()
    second = bench.service("second")
    until(lambda: b"another trainer is at work" in log_of(bench, "second"), "the second waits")
    assert bench.runs() == []
    first.kill()
    until(lambda: not running & trainings(), "the run died with its service")
    until(bench.registered, "the run of the second service")
    (run,) = bench.runs()
    assert run.stages == ("REGISTERED", "SHADOW")
    assert bench.stages() == {run.model_id: "SHADOW"}
    until(lambda: bench.committed() == 1, "the request is committed")
    second.stop()
    third = bench.service("third")
    third.wait_ready()
    bench.ask("precision")
    until(lambda: len(bench.logs()) == 2, "the next run")
    bench.ask("manual")
    until(lambda: bool(trainings()), "a child")
    os.kill(third.pid, signal.SIGTERM)
    until(lambda: not third.running, "an orderly stop")
    assert trainings() == set()
    assert len(bench.logs()) == 2
    assert len(bench.runs()) == 1


def log_of(bench: Bench, name: str) -> bytes:
    path = bench.pipeline.log_dir / f"{name}.log"
    return path.read_bytes() if path.exists() else b""


def test_the_data_of_a_stored_run_are_rebuilt_to_the_byte(bench: Bench) -> None:
    options = bench.options()
    days = ["--label-delay-days", str(LABEL_DELAY_DAYS)]
    place = str(bench.folder / "archive")
    run = bench.command(
        "train", "--archive", place, "--run-id", "run-a", "--model-id", "a", *days, *options
    )
    assert run["provenance"]["counts"]["rows"] == ROWS
    assert 0 < run["provenance"]["counts"]["frauds"] == run["provenance"]["counts"]["labelled"]
    bench.archive()  # the same again, and later versions of the tables
    bench.command("archive", "--maintain")
    again = bench.command("train", "--as-of", "run-a", "--model-id", "b", *options)
    assert again["provenance"] == run["provenance"]
    assert again["metrics"] == run["metrics"]
    known = bench.command("train", "--archive", place, "--run-id", "run-a", *days, *options)
    assert known == run  # an id that is known is not trained again
