"""Runs in a real MLflow server, and what happens while it is down."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from devstack.ports import free_port
from devstack.servers.mlflow import MlflowServer
from runtime.settings import Settings, load_settings
from schemas.errors import ConfigurationError, TrackingUnavailable
from tests.support.scorer.stand_ins import small_bundle
from trainer.__main__ import app
from trainer.training import tracking
from trainer.training.run_records import RunRecord

GATES = {"passed": True, "gates": [{"gate": "auc", "passed": True, "figure": 0.97, "bound": 0.9}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    folder = tmp_path_factory.mktemp("mlflow")
    running = MlflowServer(folder, folder / "logs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")  # the machine of the tests may be busy
        running.start()
        yield running
        running.stop()


@pytest.fixture
def settings(server: MlflowServer) -> Settings:
    return load_settings(mlflow_tracking_uri=server.url)


def record(folder: Path, name: str, at: int, **changes: Any) -> RunRecord:
    made = folder / name
    digest = small_bundle(made, name)
    (made / "model_card.md").write_text("# card")
    return replace(
        RunRecord(
            run_id=f"run-{name}",
            model_id=name,
            started_at=at,
            finished_at=at + 5,
            state="passed",
            provenance={"source": "test", "versions": {"features": 3}},
            parameters={"max_depth": 6},
            thresholds={"review": 0.2},
            metrics={"auc": 0.97},
            intervals={"auc": {"value": 0.97, "low": 0.95, "high": 0.98}},
            gates=GATES,
            bundle=str(made),
            sha256=digest,
        ),
        **changes,
    )


def client(settings: Settings) -> Any:
    from mlflow import MlflowClient

    assert settings.mlflow_tracking_uri is not None
    return MlflowClient(settings.mlflow_tracking_uri.get_secret_value())


def runs_of(settings: Settings, run_id: str) -> list[Any]:
    asked = client(settings)
    experiment = asked.get_experiment_by_name(tracking.EXPERIMENT).experiment_id
    return list(asked.search_runs([experiment], f"tags.`{tracking.RUN_TAG}` = '{run_id}'"))


def test_a_run_lands_with_artefacts_a_version_and_its_alias(
    settings: Settings, tmp_path: Path
) -> None:
    one = record(tmp_path, "a1", 1_000)
    tracking.spool(one, tmp_path)
    assert tracking.upload(settings, tmp_path).uploaded == ("run-a1",)
    assert list((tmp_path / "spool").iterdir()) == []
    (run,) = runs_of(settings, "run-a1")
    assert run.data.params["max_depth"] == "6"
    assert run.data.params["data.versions"] == "{'features': 3}"
    assert run.data.metrics["auc"] == 0.97
    assert run.data.metrics["auc.low"] == 0.95
    assert run.data.metrics["gate.auc"] == 0.97
    assert run.info.status == "FINISHED"
    asked = client(settings)
    names = {item.path for item in asked.list_artifacts(run.info.run_id, "bundle")}
    assert {"bundle/model_card.md", "bundle/manifest.json", "bundle/forest.npz"} <= names
    version = asked.get_model_version_by_alias(tracking.MODEL, tracking.CANDIDATE)
    assert version.run_id == run.info.run_id
    assert version.tags[tracking.MODEL_TAG] == "a1"
    # Again, as after a crash before the spool was cleared: nothing is there twice.
    tracking.spool(one, tmp_path)
    tracking.upload(settings, tmp_path, champion_id="a1")
    assert len(runs_of(settings, "run-a1")) == 1
    champion = asked.get_model_version_by_alias(tracking.MODEL, tracking.CHAMPION)
    assert champion.version == version.version


def test_the_alias_of_the_champion_is_where_it_serves_or_nowhere(
    settings: Settings, tmp_path: Path
) -> None:
    def champion() -> str | None:
        found = client(settings).get_registered_model(tracking.MODEL)
        version = found.aliases.get(tracking.CHAMPION)
        if version is None:
            return None
        tags = client(settings).get_model_version(tracking.MODEL, version).tags
        return str(tags[tracking.MODEL_TAG])

    for name in ("f1", "f2"):
        tracking.spool(record(tmp_path, name, 1_200), tmp_path)
    tracking.upload(settings, tmp_path)
    assert tracking.point_champion(settings, "f1")
    assert champion() == "f1"
    assert tracking.point_champion(settings, "f2")
    assert champion() == "f2"
    assert not tracking.point_champion(settings, "a model of bootstrap")
    assert champion() is None
    assert not tracking.point_champion(settings, "a model of bootstrap")
    nobody = load_settings(mlflow_tracking_uri=f"http://me:secret@127.0.0.1:{free_port()}")
    with pytest.raises(TrackingUnavailable) as away:
        tracking.point_champion(nobody, "f1")
    assert "secret" not in str(away.value)


def test_no_alias_where_no_model_was_ever_registered(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "MODEL", "another")
    assert not tracking.point_champion(settings, "f1")


def test_a_refused_run_is_there_but_no_version(settings: Settings, tmp_path: Path) -> None:
    refused = record(tmp_path, "b1", 1_500, state="refused by gates", reasons=("AUC 0.5",))
    tracking.spool(refused, tmp_path)
    assert tracking.upload(settings, tmp_path).left == ()
    (run,) = runs_of(settings, "run-b1")
    assert run.data.tags["fraud.reasons"] == "AUC 0.5"
    found = client(settings).search_model_versions(f"name = '{tracking.MODEL}'")
    assert "b1" not in {version.tags[tracking.MODEL_TAG] for version in found}


def test_a_server_that_is_down_keeps_the_runs_for_later(
    settings: Settings, server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = load_settings(mlflow_tracking_uri=f"http://me:secret@127.0.0.1:{free_port()}")
    tracking.spool(record(tmp_path, "c2", 3_000), tmp_path)
    tracking.spool(record(tmp_path, "c1", 2_000), tmp_path)
    done = tracking.upload(nobody, tmp_path)
    assert (done.uploaded, done.left) == ((), ("run-c1", "run-c2"))
    assert "secret" not in done.reason
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert nobody.mlflow_tracking_uri is not None
    address = nobody.mlflow_tracking_uri.get_secret_value()
    command = ["upload", "--state", str(tmp_path)]
    failed = CliRunner().invoke(app, command, env={"FRAUD_MLFLOW_TRACKING_URI": address})
    assert isinstance(failed.exception, TrackingUnavailable)
    # By the standard variable, when the server is back.
    sent = CliRunner().invoke(app, command, env={"MLFLOW_TRACKING_URI": server.url})
    assert sent.exit_code == 0, sent.output
    assert list((tmp_path / "spool").iterdir()) == []
    newest = client(settings).get_model_version_by_alias(tracking.MODEL, tracking.CANDIDATE)
    assert newest.tags[tracking.MODEL_TAG] == "c2"  # the newest, though spooled first


def test_a_file_that_is_not_a_run_stays_and_holds_nothing_up(
    settings: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tracking.spool(record(tmp_path, "d1", 4_000), tmp_path)
    (tmp_path / "spool" / "run-broken.json").write_text("{")
    done = tracking.upload(settings, tmp_path)
    assert (done.uploaded, done.left) == (("run-d1",), ("run-broken",))
    assert "run-broken.json" in done.reason
    assert capfd.readouterr().out == ""  # where reports go


def test_two_that_upload_at_once_make_one_run(settings: Settings, tmp_path: Path) -> None:
    tracking.spool(record(tmp_path, "e1", 5_000), tmp_path)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: tracking.upload(settings, tmp_path), range(2)))
    assert sorted(done.uploaded for done in both) == [(), ("run-e1",)]
    assert [done.left for done in both] == [(), ()]
    assert len(runs_of(settings, "run-e1")) == 1


def test_uploading_nowhere_is_a_wrong_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigurationError, match="FRAUD_MLFLOW_TRACKING_URI"):
        tracking.upload(load_settings(), tmp_path)
