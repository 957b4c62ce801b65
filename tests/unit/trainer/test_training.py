"""A run from data to a judged bundle: what is written, recorded, refused, and what is not left."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from schemas.errors import BrokerUnavailable, ConfigurationError
from schemas.manifest import MANIFEST_NAME, sha256
from scorer.model.bundle import load_model
from tests.unit.trainer.test_bootstrap import MAPPING, dataset, history
from trainer.__main__ import app
from trainer.commands.sources import moment
from trainer.dataset.check import Check, DataReport
from trainer.dataset.dataset import Dataset
from trainer.evaluation.gate_bounds import GateBounds, load_bounds
from trainer.registry.publication import champion_of
from trainer.training import batch_training, bundle_writer, run_records
from trainer.training.search import SearchOptions
from trainer.training.thresholds import PrecisionTargets
from trainer.training.training_run import Champion, RunOptions, run_training

NOW = 1_800_000_000_000


def data(*, signal: float = 4.0) -> Dataset:
    made = dataset(np.random.default_rng(5).random(3000) < 0.1)
    made.vectors[:, 0] += (signal - 4.0) * made.fraud
    return made


def options(folder: Path, model_id: str = "m1", **changes: Any) -> RunOptions:
    train = batch_training.TrainOptions(rounds=10, targets=PrecisionTargets(), **changes)
    return RunOptions(
        model_id=model_id,
        output=folder / "models",
        state_dir=folder / "state",
        train=train,
        bounds=bounds(),
    )


def bounds() -> GateBounds:
    read = load_bounds()
    alert = read.alert_rate.model_copy(update={"most": 0.5})
    slow = read.latency.model_copy(update={"most_us": 1e6})  # not what is tested here
    return read.model_copy(update={"alert_rate": alert, "latency": slow})


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, run_records.RunRecord]:
    folder = tmp_path_factory.mktemp("first")
    provenance = {"source": "test", "version": 3}
    found = run_training(
        data(), provenance, options(folder), check=lambda _: DataReport(3, 1, ()), clock=lambda: NOW
    )
    return folder, found


def test_a_run_leaves_a_bundle_a_card_and_a_record(
    first: tuple[Path, run_records.RunRecord],
) -> None:
    folder, record = first
    assert record.passed, record.reasons
    made = folder / "models" / "m1"
    assert record.sha256 is not None
    model = load_model(made, record.sha256)
    assert model.thresholds.review == record.thresholds["review"]
    names = json.loads((made / MANIFEST_NAME).read_text())["files"]
    for name in ("model_card.md", "shap.png", "gates.json", "data_check.json", "thresholds.json"):
        assert name in names
    assert (made / "shap.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((made / "gates.json").read_text())["passed"] is True
    card = (made / "model_card.md").read_text()
    for text in ("95% interval", "| version | `3` |", "## Slices", "| channel |", "## Limits"):
        assert text in card
    assert "transactions, the oldest |" in card
    assert "transactions that follow the training data" in card
    assert record.check == {
        "rows": 3, "frauds": 1, "passed": True, "failures": [], "checks": [],
    }  # fmt: skip
    again = run_records.load(folder / "state" / "runs" / record.run_id / run_records.RUN_FILE)
    assert again == record


def test_a_failed_data_check_stops_before_training(tmp_path: Path) -> None:
    nothing = data().take(np.arange(0))  # would be refused by training
    refusal = DataReport(0, 0, (Check("rows", "", 0, low=5),))
    record = run_training(
        nothing, {}, options(tmp_path), check=lambda _: refusal, clock=lambda: NOW
    )
    reasons = ("rows is 0, must be at least 5",)
    assert (record.state, record.reasons) == ("refused by data check", reasons)
    assert record.bundle is None
    assert not (tmp_path / "models").exists()
    assert (tmp_path / "state" / "runs" / record.run_id / run_records.RUN_FILE).is_file()


def test_a_worse_candidate_is_refused_against_the_champion(
    first: tuple[Path, run_records.RunRecord], tmp_path: Path
) -> None:
    folder, better = first
    champion = champion_of(folder / "models" / "m1")
    assert champion == Champion("m1", folder / "models" / "m1", better.sha256 or "")
    wanted = options(tmp_path, "m2", max_depth=1)
    worse = data(signal=4.0)
    worse.vectors[: 3 * len(worse) // 4, 0] = 0.0  # learns nothing, is judged on sound rows
    record = run_training(worse, {}, wanted, champion)
    assert record.state == "refused by gates"
    assert any("against m1 on the same rows" in reason for reason in record.reasons)
    assert (tmp_path / "models" / "m2" / "gates.json").is_file()


def test_a_champion_that_does_not_load_is_named_and_the_run_recorded(tmp_path: Path) -> None:
    champion = Champion("lost", tmp_path / "lost", "00")
    with pytest.raises(ConfigurationError, match="lost cannot be compared with"):
        run_training(data(), {}, options(tmp_path), champion)
    (path,) = (tmp_path / "state" / "runs").glob("*/run.json")
    assert run_records.load(path).state == "failed"


@pytest.fixture(scope="module")
def trained() -> batch_training.Trained:
    return batch_training.train(data(), batch_training.TrainOptions(rounds=10))[0]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [10, 20_000])
def test_a_disk_that_takes_no_more_leaves_nothing_behind(
    tmp_path: Path, size: int, trained: batch_training.Trained
) -> None:
    with files_of_at_most(size), pytest.raises(ConfigurationError, match="nothing of it is left"):
        bundle_writer.write(tmp_path / "models" / "m1", "m1", trained)
    assert list((tmp_path / "models").iterdir()) == []
    bundle_writer.write(tmp_path / "models" / "m1", "m1", trained)  # once there is room again


def test_search_and_early_stopping_are_told_in_the_parameters() -> None:
    search = SearchOptions(seconds=1e9, trials=2)
    trained, _ = batch_training.train(data(), batch_training.TrainOptions(rounds=8, search=search))
    assert trained.parameters["search_trials"] == 2
    assert trained.booster.num_boosted_rounds() == trained.parameters["rounds"] <= 8
    early = batch_training.TrainOptions(rounds=150, eta=0.5, early_stopping=True)
    trained, _ = batch_training.train(data(), early)
    assert trained.booster.num_boosted_rounds() == trained.parameters["rounds"] < 150


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    pa.parquet.write_table(history(8000), tmp_path / "day.parquet")
    (tmp_path / "map.yaml").write_text(MAPPING)
    return [
        "train", "--input", str(tmp_path / "day.parquet"), "--mapping", str(tmp_path / "map.yaml"),
        "--output", str(tmp_path / "models"), "--state", str(tmp_path / "state"),
        "--label-delay-days", "2", "--rounds", "20", "--json", str(tmp_path / "run.json"),
    ]  # fmt: skip


def test_the_command_reports_and_exits_by_what_came_of_it(
    tmp_path: Path, arguments: list[str]
) -> None:
    gates = tmp_path / "gates.yaml"
    gates.write_text(
        "alert_rate: {most: 0.5}\nlatency: {most_us: 1000000}\nfairness: {most_difference: 0.5}\n"
    )
    passed = CliRunner().invoke(app, [*arguments, "--model-id", "m1", "--gates", str(gates)])
    assert passed.exit_code == 0, passed.output
    report = json.loads((tmp_path / "run.json").read_text())
    assert report["state"] == "passed"
    raw = (Path(report["bundle"]) / MANIFEST_NAME).read_bytes()
    assert report["sha256"] == sha256(raw)
    gates.write_text("auc: {least: 0.9999}\n")
    refused = CliRunner().invoke(
        app, [*arguments, "--gates", str(gates), "--champion", str(tmp_path / "models" / "m1")]
    )
    assert refused.exit_code == 1
    report = json.loads((tmp_path / "run.json").read_text())
    assert (report["state"], report["champion_id"]) == ("refused by gates", "m1")
    missing = [check for check in report["check"]["checks"] if check["name"] == "missing rate"]
    assert min(check["high"] for check in missing) == 0.2  # above the champion's 0
    assert "more than 0.9999 is needed" in " ".join(report["reasons"])
    wrong = CliRunner().invoke(app, [*arguments, "--review-precision", "0.99"])
    assert isinstance(wrong.exception, ConfigurationError)


def test_a_run_that_kafka_does_not_take_is_reported_all_the_same(
    tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(settings: Any) -> Any:
        raise BrokerUnavailable("Kafka does not answer")

    monkeypatch.setattr("trainer.commands.training_job.open_registry", down)
    gates = tmp_path / "gates.yaml"
    gates.write_text(
        "alert_rate: {most: 0.5}\nlatency: {most_us: 1000000}\nfairness: {most_difference: 0.5}\n"
    )
    given = [*arguments, "--gates", str(gates), "--champion", "none", "--publish"]
    result = CliRunner().invoke(app, given)
    assert isinstance(result.exception, BrokerUnavailable)
    report = json.loads((tmp_path / "run.json").read_text())
    assert (report["state"], report["stages"]) == ("passed", [])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--search-trials", "3"], "--search-seconds"),
        (["--approval"], "--approval goes with --publish"),
        (["--stage", "CANARY"], "--stage goes with --publish"),
        (["--publish", "--share", "0.2"], "--share goes with --stage CANARY"),
        (["--publish", "--stage", "CANARY", "--share", "0"], "above 0"),
        (["--model-id", "it's"], "plain name"),
        (["--as-of", "run-1"], "--label-delay-days goes with"),
    ],
)
def test_an_option_that_would_be_ignored_or_fail_later_is_refused_at_once(
    tmp_path: Path, given: list[str], message: str
) -> None:
    files = ["--input", "nothing.parquet", "--mapping", "nothing.yaml"]
    rest = ["--label-delay-days", "2"] if "--as-of" in given else files
    result = CliRunner().invoke(app, ["train", *rest, *given, "--output", str(tmp_path)])
    assert isinstance(result.exception, ConfigurationError)
    assert message in str(result.exception)


@pytest.mark.parametrize("text", ["99999999999999999999", "May", "2026-13-01"])
def test_a_time_that_is_none_is_named(text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"--cutoff '{text}'"):
        moment("--cutoff", text)
