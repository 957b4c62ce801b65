"""Runs in MLflow: parameters, metrics, artefacts, and versions of the registered model.

Each run is spooled first and uploaded from there, oldest first: what a server that is down did not
take, the next run or `python -m trainer upload` brings. An upload that broke off is taken up again
in the same MLflow run.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit, urlunsplit

from runtime.settings import Settings
from schemas.errors import ConfigurationError, TrackingUnavailable
from trainer.training import run_records
from trainer.training.run_records import RunRecord

Answer = TypeVar("Answer")
EXPERIMENT: Final = "fraud-scoring"
MODEL: Final = "fraud-scorer"
CANDIDATE: Final = "candidate"
"""Alias of the newest version that passed the gates."""
CHAMPION: Final = "champion"
"""Alias of the version that serves."""
RUN_TAG: Final = "fraud.run_id"
MODEL_TAG: Final = "fraud.model_id"
DONE_TAG: Final = "fraud.uploaded"
_MAX_PARAMETER: Final = 6000
"""MLflow takes no longer value of a parameter."""
_TIMEOUT_S: Final = 10


@dataclass(frozen=True, slots=True)
class Uploaded:
    """Runs that were uploaded, runs that are left, and why the first of those is left."""

    uploaded: tuple[str, ...]
    left: tuple[str, ...]
    reason: str = ""


def spool(record: RunRecord, state_dir: Path) -> None:
    """Keep a run for uploading; raises as `runs.save`."""
    run_records.put(_spool(state_dir) / f"{record.run_id}.json", record)


def upload(settings: Settings, state_dir: Path, *, champion_id: str | None = None) -> Uploaded:
    """Upload everything that is spooled, and point the alias `champion` to that model's version.

    Never raises for a server that is down or refuses a run, or for a file that is not a run: such
    files stay in the spool. Waits at most some seconds for a server that does not answer, and while
    another process uploads: two at once would make two MLflow runs of one.

    Raises:
        ConfigurationError: no tracking server is configured, or the spool cannot be locked.
    """
    uri = _address(settings)
    with _locked(state_dir / "spool.lock"):
        return _upload(uri, state_dir, champion_id)


def point_champion(settings: Settings, model_id: str) -> bool:
    """Point the alias `champion` to that model's version, or remove it where MLflow has none.

    Returns whether it has one. Waits at most some seconds for a server that does not answer.

    Raises:
        ConfigurationError: no tracking server is configured.
        TrackingUnavailable: it does not answer, or refuses.
    """
    return _Store(_address(settings)).point(CHAMPION, model_id)


def _address(settings: Settings) -> str:
    if settings.mlflow_tracking_uri is None:
        raise ConfigurationError("no MLflow server: set FRAUD_MLFLOW_TRACKING_URI")
    return settings.mlflow_tracking_uri.get_secret_value()


def _upload(uri: str, state_dir: Path, champion_id: str | None) -> Uploaded:
    waiting, names, reason = list[RunRecord](), list[str](), ""
    for path in sorted(_spool(state_dir).glob("run-*.json")):
        names.append(path.stem)
        try:
            waiting.append(run_records.load(path))
        except ConfigurationError as error:
            reason = reason or str(error)
    waiting.sort(key=lambda record: record.started_at)  # `candidate` ends at the newest
    try:
        store = _Store(uri)
    except TrackingUnavailable as error:
        return Uploaded((), tuple(names), str(error))
    done: list[str] = []
    for record in waiting:
        try:
            store.put(record)
        except TrackingUnavailable as error:
            reason = reason or str(error)
            continue
        (_spool(state_dir) / f"{record.run_id}.json").unlink(missing_ok=True)
        done.append(record.run_id)
    if champion_id is not None:
        try:
            store.point(CHAMPION, champion_id)
        except TrackingUnavailable as error:
            reason = reason or str(error)
    return Uploaded(tuple(done), tuple(name for name in names if name not in done), reason)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("w")
    except OSError as error:
        raise ConfigurationError(
            f"cannot lock the spool by {path}: {error}: give another --state"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _spool(state_dir: Path) -> Path:
    return state_dir / "spool"


def _shown(uri: str) -> str:
    """Return an address without user and password."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


class _Store:
    """One MLflow server; every failure of it is a TrackingUnavailable."""

    def __init__(self, uri: str) -> None:
        # Read by MLflow at each request; what the operator has set wins.
        for name, value in {
            "MLFLOW_HTTP_REQUEST_TIMEOUT": str(_TIMEOUT_S),
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
            "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        }.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        self._uri = uri
        self._client: Any = self._asked(lambda: MlflowClient(uri, uri))
        self._experiment: str = self._asked(self._experiment_id)

    def put(self, record: RunRecord) -> None:
        """Upload a run; one that is there already is completed."""
        self._asked(lambda: self._put(record))

    def point(self, alias: str, model_id: str) -> bool:
        """Point an alias to the version of a model, or to none; return whether there is one."""

        def point() -> bool:
            versions = self._versions(f"tags.`{MODEL_TAG}` = '{model_id}'")
            for version in versions:
                self._client.set_registered_model_alias(MODEL, alias, version.version)
            if not versions:
                self._remove(alias)
            return bool(versions)

        return self._asked(point)

    def _put(self, record: RunRecord) -> None:
        run = self._run(record)
        if run.data.tags.get(DONE_TAG) == "true":
            return
        run_id = run.info.run_id
        self._log(run_id, record)
        if record.bundle is not None and Path(record.bundle).is_dir():
            self._client.log_artifacts(run_id, record.bundle, "bundle")
            if record.passed:
                self._register(run, record)
        self._client.log_dict(run_id, record.document(), run_records.RUN_FILE)
        self._client.set_tag(run_id, DONE_TAG, "true")
        self._client.set_terminated(run_id, "FINISHED", record.finished_at)

    def _log(self, run_id: str, record: RunRecord) -> None:
        from mlflow.entities import Metric, Param

        parameters = {
            **record.parameters,
            **{f"threshold.{name}": value for name, value in record.thresholds.items()},
            **{f"data.{name}": value for name, value in record.provenance.items()},
        }
        gates = [] if record.gates is None else record.gates["gates"]
        metrics = {**record.metrics, **{f"gate.{gate['gate']}": gate["figure"] for gate in gates}}
        for name, value in record.intervals.items():
            metrics |= {f"{name}.{end}": value[end] for end in ("value", "low", "high")}
        self._client.log_batch(
            run_id,
            params=[Param(name, str(value)[:_MAX_PARAMETER]) for name, value in parameters.items()],
            metrics=[
                Metric(name, float(value), record.finished_at, 0) for name, value in metrics.items()
            ],
        )

    def _run(self, record: RunRecord) -> Any:
        found = self._client.search_runs(
            [self._experiment], f"tags.`{RUN_TAG}` = '{record.run_id}'", max_results=1
        )
        if found:
            return found[0]
        tags = {
            RUN_TAG: record.run_id,
            MODEL_TAG: record.model_id,
            "fraud.state": record.state,
            "fraud.reasons": "\n".join(record.reasons)[:_MAX_PARAMETER],
            "fraud.stages": ", ".join(record.stages),
        }
        return self._client.create_run(
            self._experiment, record.started_at, tags, run_name=record.model_id
        )

    def _register(self, run: Any, record: RunRecord) -> None:
        from mlflow.exceptions import MlflowException

        versions = self._versions(f"run_id = '{run.info.run_id}'")
        if not versions:
            try:
                self._client.create_registered_model(MODEL)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            versions = [
                self._client.create_model_version(
                    MODEL,
                    f"{run.info.artifact_uri}/bundle",
                    run.info.run_id,
                    {MODEL_TAG: record.model_id, "fraud.sha256": record.sha256 or ""},
                )
            ]
        self._client.set_registered_model_alias(MODEL, CANDIDATE, versions[0].version)
        if "CHAMPION" in record.stages:
            self._client.set_registered_model_alias(MODEL, CHAMPION, versions[0].version)

    def _remove(self, alias: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.delete_registered_model_alias(MODEL, alias)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # no model has been registered yet
                raise

    def _versions(self, where: str) -> list[Any]:
        return list(self._client.search_model_versions(f"name = '{MODEL}' and {where}"))

    def _experiment_id(self) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        return str(self._client.create_experiment(EXPERIMENT))

    def _asked(self, ask: Callable[[], Answer]) -> Answer:
        import requests
        from mlflow.exceptions import MlflowException

        try:
            return ask()
        except (MlflowException, requests.RequestException, OSError) as error:
            text = str(error).replace(self._uri, _shown(self._uri))
            raise TrackingUnavailable(f"MLflow at {_shown(self._uri)}: {text}") from error
