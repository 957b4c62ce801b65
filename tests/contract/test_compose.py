"""docker-compose.yml agrees with the code: settings, commands, ports, versions, health checks.

There is no container engine where the tests run, so the file is checked as data.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from devstack.java import KAFKA_VERSION
from schemas.runtime.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: each for name, each in SERVICES.items() if "build" in each}


def test_our_services_are_those_of_the_scoring_path() -> None:
    assert set(OURS) == {"stream-features", "scorer"}
    assert set(SERVICES) - set(OURS) == {"kafka", "redis"}


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_pinned_and_has_a_health_check(name: str) -> None:
    assert re.search(r":\d", SERVICES[name]["image"]), "an image needs a version"
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", OURS)
def test_environment_names_are_settings_with_valid_values(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment: dict[str, str] = OURS[name]["environment"]
    known = {f"FRAUD_{field.upper()}" for field in Settings.model_fields}
    assert set(environment) <= known
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    settings = load_settings()
    kafka, port = settings.bootstrap.split(":")
    assert f"PLAINTEXT://{kafka}:{port}" in SERVICES[kafka]["environment"][
        "KAFKA_ADVERTISED_LISTENERS"
    ].split(",")
    assert settings.redis_url.get_secret_value() == "redis://redis:6379/0"
    assert settings.worker_id


@pytest.mark.parametrize("name", OURS)
def test_health_check_and_port_are_the_health_server(name: str) -> None:
    port = OURS[name]["environment"]["FRAUD_HEALTH_PORT"]
    assert f"http://127.0.0.1:{port}/readyz" in OURS[name]["healthcheck"]["test"][-1]
    assert [mapping.split(":")[1] for mapping in OURS[name]["ports"]] == [port]
    waited = OURS[name]["depends_on"]
    assert {each: rule["condition"] for each, rule in waited.items()} == {
        "kafka": "service_healthy",
        "redis": "service_healthy",
    }


@pytest.mark.parametrize("name", OURS)
def test_commands_exist(name: str) -> None:
    python, *arguments = OURS[name]["command"]
    assert python == "python"
    answer = subprocess.run(
        [sys.executable, *arguments, "--help"], capture_output=True, text=True, cwd=ROOT
    )
    assert answer.returncode == 0, answer.stderr


def test_the_image_is_built_from_what_is_there() -> None:
    lines = OURS["scorer"]["build"]["dockerfile_inline"].splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert all((ROOT / path).exists() for path in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [extras] = re.findall(r"\.\[([a-z,]+)\]", "\n".join(lines))
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    assert any(line.startswith("USER ") for line in lines), "services do not run as root"
    assert OURS["scorer"]["image"].endswith(":" + project["version"])


def test_kafka_is_the_version_of_the_local_stack() -> None:
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"


def test_named_volumes_are_declared() -> None:
    mounts = [each for service in SERVICES.values() for each in service.get("volumes", ())]
    assert {mount.split(":")[0] for mount in mounts} == set(COMPOSE["volumes"])
