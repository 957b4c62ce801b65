"""docker-compose.yml agrees with the code: settings, commands, ports, versions, health checks.

There is no container engine where the tests run, so the file is checked as data.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from devstack.fetch.java import KAFKA_VERSION
from monitor.observability import DASHBOARDS, PROMETHEUS, PROVISIONING, RULES
from runtime.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
VOLUMES: dict[str, Any] = yaml.safe_load(TEXT)["volumes"]
OURS = {
    name: each
    for name, each in SERVICES.items()
    if "FRAUD_BOOTSTRAP" in each.get("environment", {})
}
BUILT = {name: each for name, each in SERVICES.items() if "build" in each}
HEALTH_PORT = "8080"
JOBS = {"stream-features": "stream_features", "archive": "archiver"}
"""Scrape jobs that are not named like their service."""


def _settings(name: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings of a service, with the example's secrets."""
    example = dict(
        line.split("=", 1)
        for line in (ROOT / ".env.example").read_text().splitlines()
        if "=" in line and not line.startswith("#")
    )
    for variable, value in OURS[name]["environment"].items():
        filled = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: example[found[1]], value)
        monkeypatch.setenv(variable, filled)
    return load_settings()


def _target(address: str) -> tuple[str, str]:
    host, port = address.removeprefix("http://").split(":")
    return host, port


def test_every_service_is_there() -> None:
    assert set(OURS) == {
        "stream-features", "scorer", "gateway", "store", "archive", "trainer", "online",
        "monitor", "dashboard",
    }  # fmt: skip
    assert set(SERVICES) - set(OURS) == {
        "kafka", "redis", "postgres", "mlflow", "prometheus", "grafana",
    }  # fmt: skip


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_restarts_and_has_a_health_check(name: str) -> None:
    service = SERVICES[name]
    assert re.search(r":v?\d+\.\d+", service["image"]), "an image needs a version"
    assert service["image"].count("/") <= 1, "no registry is named"
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"
    assert not service.get("privileged")
    for limit in ("interval", "timeout", "retries"):
        assert limit in service["healthcheck"]


@pytest.mark.parametrize("name", OURS)
def test_environment_names_are_settings_with_valid_values(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment: dict[str, str] = OURS[name]["environment"]
    known = {f"FRAUD_{field.upper()}" for field in Settings.model_fields}
    assert set(environment) <= known
    settings = _settings(name, monkeypatch)
    kafka, port = settings.bootstrap.split(":")
    assert f"PLAINTEXT://{kafka}:{port}" in SERVICES[kafka]["environment"][
        "KAFKA_ADVERTISED_LISTENERS"
    ].split(",")
    assert settings.worker_id
    if "FRAUD_REDIS_URL" in environment:
        assert settings.redis_url.get_secret_value() == "redis://redis:6379/0"
    if "FRAUD_DATABASE_URL" in environment:
        found = re.fullmatch(
            r"postgresql\+psycopg://(\w+):([\w-]+)@(\w+):5432/(\w+)",
            settings.database_url.get_secret_value(),
        )
        assert found is not None
        postgres = SERVICES[found[3]]["environment"]
        assert (found[1], found[4]) == (postgres["POSTGRES_USER"], postgres["POSTGRES_DB"])
    if "FRAUD_MLFLOW_TRACKING_URI" in environment:
        address = settings.mlflow_tracking_uri
        assert address is not None
        host, port = _target(address.get_secret_value())
        assert f"--port={port}" in SERVICES[host]["command"]
        allowed = next(each for each in SERVICES[host]["command"] if "allowed-hosts" in each)
        assert f"{host}:{port}" in allowed


@pytest.mark.parametrize("name", OURS)
def test_a_service_waits_for_what_it_is_told_to_use(name: str) -> None:
    environment, waits = OURS[name]["environment"], OURS[name]["depends_on"]
    needed = {"FRAUD_REDIS_URL": "redis", "FRAUD_DATABASE_URL": "postgres",
              "FRAUD_MLFLOW_TRACKING_URI": "mlflow"}  # fmt: skip
    for variable, other in needed.items():
        assert (variable in environment) == (other in waits), f"{variable} and {other}"
    assert "kafka" in waits
    assert set(waits) <= set(SERVICES)
    assert {rule["condition"] for rule in waits.values()} == {"service_healthy"}


@pytest.mark.parametrize("name", OURS)
def test_the_health_check_asks_the_health_server(name: str) -> None:
    service = OURS[name]
    assert service["environment"]["FRAUD_HEALTH_PORT"] == HEALTH_PORT
    assert service["environment"]["FRAUD_HEALTH_HOST"] == "0.0.0.0"
    assert f"http://127.0.0.1:{HEALTH_PORT}/readyz" in service["healthcheck"]["test"][-1]


@pytest.mark.parametrize(("name", "kind"), [("gateway", "api"), ("dashboard", "dashboard")])
def test_what_people_reach_listens_on_the_port_that_is_published(
    name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _settings(name, monkeypatch)
    port = getattr(settings, f"{kind}_port")
    assert getattr(settings, f"{kind}_host") == "0.0.0.0"
    assert port != int(HEALTH_PORT)
    assert SERVICES[name]["ports"] == [f"127.0.0.1:{port}:{port}"]


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_is_published_in_clear_beyond_this_machine(name: str) -> None:
    service = SERVICES[name]
    if "FRAUD_TLS_CERTIFICATE" not in service.get("environment", {}):
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


@pytest.mark.parametrize("name", OURS)
def test_commands_exist_and_take_their_options(name: str) -> None:
    python, option, package, command, *arguments = OURS[name]["command"]
    assert (python, option) == ("python", "-m")
    group: Any = typer.main.get_command(importlib.import_module(f"{package}.__main__").app)
    assert command in group.commands
    group.commands[command].make_context(command, arguments)


def test_the_command_of_mlflow_exists_and_takes_its_options() -> None:
    command = [sys.executable, "-m", *SERVICES["mlflow"]["command"], "--help"]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("name", BUILT)
def test_our_images_are_targets_of_the_dockerfile_and_confined(name: str) -> None:
    service = BUILT[name]
    target = service["build"]["target"]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f" AS {target}\n" in (ROOT / "Dockerfile").read_text()
    assert service["image"] == f"fraud-scoring-{target}:{version}"
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_kafka_is_the_version_of_the_local_stack() -> None:
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"


def test_volumes_are_declared_and_folders_are_there() -> None:
    mounts = [each for service in SERVICES.values() for each in service.get("volumes", ())]
    named = {mount.split(":")[0] for mount in mounts if not mount.startswith(".")}
    assert named == set(VOLUMES)
    for mount in mounts:
        if mount.startswith("."):
            assert (ROOT / mount.split(":")[0]).exists(), mount
            assert mount.endswith(":ro")


def test_who_serves_models_sees_them_where_they_are_written() -> None:
    def place(name: str) -> list[str]:
        return [each for each in SERVICES[name].get("volumes", ()) if each.startswith("models:")]

    for name in ("trainer", "online"):
        assert place(name) == ["models:/models"]
        command = SERVICES[name]["command"]
        assert command[command.index("--output") + 1] == "/models"
    for name in ("scorer", "monitor", "dashboard"):
        assert place(name) == ["models:/models:ro"]
    for name in ("archive", "trainer"):
        url = SERVICES[name]["environment"]["FRAUD_ARCHIVE_URL"]
        assert any(each.startswith(f"archive:{url}") for each in SERVICES[name]["volumes"])


def test_secrets_come_from_the_environment_file_and_are_placeholders_here() -> None:
    example = (ROOT / ".env.example").read_text()
    asked = set(re.findall(r"\$\{(\w+)", TEXT))
    given = dict(re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE))
    assert asked == set(given)
    assert set(given.values()) == {"change-me"}
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()
    for line in TEXT.splitlines():
        if re.search(r"PASSWORD|SECRET|KEY", line) and not line.lstrip().startswith("#"):
            assert "${" in line or line.rstrip().endswith(":"), line


def test_prometheus_scrapes_every_service_under_the_name_of_its_process() -> None:
    scraped = {
        job["job_name"]: _target(job["static_configs"][0]["targets"][0])
        for job in yaml.safe_load(PROMETHEUS.read_text())["scrape_configs"]
    }
    assert scraped == {JOBS.get(name, name): (name, HEALTH_PORT) for name in OURS}


def test_the_dashboard_reads_every_service_but_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = _settings("dashboard", monkeypatch).dashboard_targets
    others = set(OURS) - {"dashboard"}
    assert {_target(address) for address in targets.values()} == {
        (name, HEALTH_PORT) for name in others
    }
    assert set(targets) == {f"{name}-1" for name in others}


def test_prometheus_and_grafana_are_given_our_files() -> None:
    def inside(name: str, path: Path) -> str:
        """Return where a file of ours lies in a container."""
        for mount in SERVICES[name]["volumes"]:
            source, target, *_ = mount.split(":")
            if source.startswith(".") and path.is_relative_to(ROOT / source):
                return str(Path(target) / path.relative_to(ROOT / source)).rstrip("/.")
        raise AssertionError(f"{path} is not given to {name}")

    assert f"--config.file={inside('prometheus', PROMETHEUS)}" in SERVICES["prometheus"]["command"]
    folder = Path(inside("prometheus", PROMETHEUS)).parent
    wanted = {str(folder / each) for each in yaml.safe_load(PROMETHEUS.read_text())["rule_files"]}
    assert {inside("prometheus", path) for path in RULES} == wanted
    assert inside("grafana", PROVISIONING) == "/etc/grafana/provisioning"
    [provider] = yaml.safe_load((PROVISIONING / "dashboards/fraud.yml").read_text())["providers"]
    assert provider["options"]["path"] == inside("grafana", DASHBOARDS)
    [source] = yaml.safe_load((PROVISIONING / "datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    host, port = _target(source["url"])
    assert any(each.endswith(f":{port}") for each in SERVICES[host]["ports"])
