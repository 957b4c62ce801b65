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

from database.core.rights import RIGHTS as DATABASE_RIGHTS
from database.core.rights import role_of
from devstack.fetch.java import KAFKA_VERSION
from monitor.observability import DASHBOARDS, PROMETHEUS, PROVISIONING, RULES
from runtime.feature_store import redis_server
from runtime.kafka.administration.rights import RIGHTS
from runtime.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
VOLUMES: dict[str, Any] = yaml.safe_load(TEXT)["volumes"]
NETWORKS: dict[str, Any] = yaml.safe_load(TEXT)["networks"]
OURS = {
    name: each
    for name, each in SERVICES.items()
    if "FRAUD_WORKER_ID" in each.get("environment", {})
}
ONCE = ("kafka-setup", "database-setup", "keys")
"""What ends by itself."""
STANDING = {name: each for name, each in SERVICES.items() if name not in ONCE}
THIRD_PARTY = {"kafka", "redis", "postgres", "prometheus", "grafana"}
BUILT = {name: each for name, each in SERVICES.items() if "build" in each}
HEALTH_PORT = "8080"
JOBS = {"stream-features": "stream_features", "archive": "archiver"}
"""Scrape jobs that are not named like their service; as in logs, metrics and rights."""
REQUIRED = re.compile(r"\$\{(\w+):\?[^}]+\}")
"""What `docker compose` refuses to start without."""
IMAGE = re.compile(r"\$\{(\w+):-([^}]+)\}")
"""An image that .env can name by its digest."""


def _image(name: str) -> str:
    found = IMAGE.fullmatch(SERVICES[name]["image"])
    return found[2] if found else str(SERVICES[name]["image"])


def _settings(name: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings of a service; each of its passwords is named like its variable."""
    for variable, value in OURS[name]["environment"].items():
        monkeypatch.setenv(variable, REQUIRED.sub(r"\1", value))
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
        *THIRD_PARTY, *ONCE, "mlflow",
    }  # fmt: skip


@pytest.mark.parametrize("name", STANDING)
def test_a_service_restarts_and_has_a_health_check(name: str) -> None:
    service = STANDING[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"
    for limit in ("interval", "timeout", "retries"):
        assert limit in service["healthcheck"]


@pytest.mark.parametrize("name", ONCE)
def test_what_ends_is_waited_for_or_asked_for(name: str) -> None:
    service = SERVICES[name]
    assert "restart" not in service
    assert "healthcheck" not in service
    ended = {"condition": "service_completed_successfully"}
    waited_for = any(each.get("depends_on", {}).get(name) == ended for each in SERVICES.values())
    assert waited_for != ("tools" in service.get("profiles", ()))


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_has_a_full_version_and_foreign_ones_can_be_named_by_digest(name: str) -> None:
    image = _image(name)
    assert re.search(r":v?\d+(\.\d+){1,2}$", image), "an image needs a version"
    assert image.count("/") <= 1, "no registry is named"
    found = IMAGE.fullmatch(SERVICES[name]["image"])
    assert (found is not None) == (name in THIRD_PARTY)
    if found is not None:
        assert found[1] == f"{name.upper()}_IMAGE"
        assert found[1] in (ROOT / ".env.example").read_text()
        assert found[1] in (ROOT / "docs" / "operating.md").read_text()


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_is_confined(name: str) -> None:
    """It has no rights of root's, writes only where it must, and has its share of the machine."""
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert any(each.startswith("/tmp") for each in service["tmpfs"])
    assert not service.get("privileged")
    assert service["user"] == name if name in ("redis", "postgres") else "user" not in service
    assert 0 < service["pids_limit"] <= 256
    assert 0 < service["cpus"] <= 2
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_writes_only_to_its_volumes_and_to_memory(name: str) -> None:
    """Kernels are compiled where they are not in the image, so their folder can be written."""
    service = SERVICES[name]
    places = [each.split(":")[1] for each in service.get("volumes", ())]
    places += [each.split(":")[0] for each in service["tmpfs"]]
    assert len(set(places)) == len(places)
    if "build" in service:
        assert "/var/cache/fraud" in places
    for number, option in enumerate(service.get("command", ())):
        if option in ("--output", "--state"):
            assert service["command"][number + 1] in places


def test_networks_hold_who_needs_them_and_only_one_reaches_the_world() -> None:
    assert NETWORKS == {
        "front": None,
        "streams": {"internal": True},
        "features": {"internal": True},
        "records": {"internal": True},
        "training": {"internal": True},
        "metrics": {"internal": True},
    }
    members = {
        network: {name for name, each in SERVICES.items() if network in each.get("networks", ())}
        for network in NETWORKS
    }
    users = {
        variable: {name for name in SERVICES if variable in SERVICES[name].get("environment", {})}
        for variable in ("FRAUD_REDIS_URL", "FRAUD_DATABASE_URL", "FRAUD_MLFLOW_TRACKING_URI")
    }
    assert members["streams"] == {"kafka", *OURS}
    assert members["features"] == {"redis", *users["FRAUD_REDIS_URL"]}
    assert members["records"] == {"postgres", *users["FRAUD_DATABASE_URL"]}
    assert members["training"] == {"mlflow", *users["FRAUD_MLFLOW_TRACKING_URI"]}
    assert members["metrics"] == {"prometheus", "grafana", *OURS}
    published = {name for name, each in SERVICES.items() if each.get("ports")}
    assert members["front"] == {*published, "monitor"}
    # Beside the broker, for the listener that asks for no log-in, and nobody else is.
    shared = {name for name, each in SERVICES.items() if "network_mode" in each}
    assert shared == {"kafka-setup"}
    assert SERVICES["kafka-setup"]["network_mode"] == "service:kafka"
    assert all("networks" in each for name, each in SERVICES.items() if name not in shared)


def test_each_service_has_a_password_of_its_own_everywhere() -> None:
    """No two services log in to anything with the same one; the owner's is for the tools only."""
    owners: dict[str, set[str]] = {}
    for name, service in SERVICES.items():
        for text in (*service.get("environment", {}).values(), *service.get("command", ())):
            for variable in REQUIRED.findall(text):
                owners.setdefault(variable, set()).add(name)
    for name, service in OURS.items():
        user = JOBS.get(name, name)
        environment = service["environment"]
        assert environment["FRAUD_KAFKA_USERNAME"] == user
        assert owners.pop(f"KAFKA_PASSWORD_{user.upper()}") == {name, "kafka-setup"}
        if "FRAUD_REDIS_URL" in environment:
            assert environment["FRAUD_REDIS_USERNAME"] == user
            assert owners.pop(f"REDIS_PASSWORD_{user.upper()}") == {name, "redis"}
        if "FRAUD_DATABASE_URL" in environment:
            assert owners.pop(f"POSTGRES_PASSWORD_{user.upper()}") == {name, "database-setup"}
    assert owners == {
        "POSTGRES_PASSWORD": {"postgres", "database-setup", "keys"},
        "GRAFANA_PASSWORD": {"grafana"},
    }


@pytest.mark.parametrize("name", OURS)
def test_environment_names_are_settings_with_valid_values(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment: dict[str, str] = OURS[name]["environment"]
    known = {f"FRAUD_{field.upper()}" for field in Settings.model_fields}
    assert set(environment) <= known
    settings = _settings(name, monkeypatch)
    kafka, port = settings.bootstrap.split(":")
    assert f"CLIENTS://{kafka}:{port}" in SERVICES[kafka]["environment"][
        "KAFKA_ADVERTISED_LISTENERS"
    ].split(",")
    assert settings.kafka_security == "SASL_PLAINTEXT"
    assert settings.kafka_sasl_mechanism == "SCRAM-SHA-512"
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
        assert (found[1], found[4]) == (role_of(name), postgres["POSTGRES_DB"])
        assert name in DATABASE_RIGHTS
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
    assert {"kafka", "kafka-setup"} <= set(waits)
    assert ("database-setup" in waits) == ("postgres" in waits)
    for other, rule in waits.items():
        ends = "completed_successfully" if other in ONCE else "healthy"
        assert rule == {"condition": f"service_{ends}"}


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


@pytest.mark.parametrize("name", [*OURS, *ONCE])
def test_commands_exist_and_take_their_options(name: str) -> None:
    command = SERVICES[name]["command"]
    texts = [command]
    if command[:2] == ["sh", "-c"]:
        texts = [each.split() for each in command[2].split(" && ")]
    for python, option, package, *rest in texts:
        assert (python, option) == ("python", "-m")
        found: Any = typer.main.get_command(importlib.import_module(f"{package}.__main__").app)
        while hasattr(found, "commands"):
            found = found.commands[rest.pop(0)]
        found.make_context(found.name, rest)


def test_the_command_of_mlflow_exists_and_takes_its_options() -> None:
    command = [sys.executable, "-m", *SERVICES["mlflow"]["command"], "--help"]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("name", BUILT)
def test_our_images_are_targets_of_the_dockerfile(name: str) -> None:
    service = BUILT[name]
    target = service["build"]["target"]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f" AS {target}\n" in (ROOT / "Dockerfile").read_text()
    assert service["image"] == f"fraud-scoring-{target}:{version}"


def test_kafka_is_the_version_of_the_local_stack() -> None:
    assert _image("kafka") == f"apache/kafka:{KAFKA_VERSION}"


def test_kafka_asks_everybody_on_a_network_to_log_in() -> None:
    """tests/integration/devstack/test_compose_servers.py starts a broker with these settings."""
    environment = SERVICES["kafka"]["environment"]
    kinds = dict(
        each.split(":") for each in environment["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")
    )
    for listener in environment["KAFKA_LISTENERS"].split(","):
        name, address = listener.split("://")
        assert address.startswith("localhost:") == (kinds[name] == "PLAINTEXT"), listener
    assert environment["KAFKA_AUTHORIZER_CLASS_NAME"].endswith("StandardAuthorizer")
    assert "KAFKA_ALLOW_EVERYONE_IF_NO_ACL_FOUND" not in environment
    assert set(RIGHTS) == {JOBS.get(name, name) for name in OURS}


def test_redis_never_evicts_and_keeps_within_its_memory() -> None:
    command: list[str] = SERVICES["redis"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert command[command.index("--maxmemory") + 1] == "3gb"
    assert SERVICES["redis"]["mem_limit"] == "4g", "room for the rewrite of the append-only file"


def test_the_worker_may_do_on_redis_what_the_store_says_that_it_needs() -> None:
    needed = {"+@connection", "+fcall", "+function|load", "+info", *redis_server.RIGHTS}
    command: list[str] = SERVICES["redis"]["command"]
    starts = [number + 1 for number, each in enumerate(command) if each == "--user"]
    users = {
        command[start]: set(command[start:end])
        for start, end in zip(starts, [*starts[1:], len(command)], strict=True)
    }
    assert set(users) == {"default", "stream_features", "gateway"}
    assert needed <= users["stream_features"]
    assert "%R~*" in users["gateway"], "it only reads"
    assert {"+@connection", "+mget", "+pttl"} <= users["gateway"]
    assert {"-@all", "resetkeys"} <= users["default"]


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


def test_nothing_starts_before_every_password_is_set() -> None:
    """The example has none, so that there is no placeholder with which everything would start."""
    example = (ROOT / ".env.example").read_text()
    given = dict(re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE))
    assert set(REQUIRED.findall(TEXT)) == set(given)
    assert set(given.values()) == {""}
    assert set(re.findall(r"\$\{(\w+)", TEXT)) == set(given) | {
        f"{name.upper()}_IMAGE" for name in THIRD_PARTY
    }
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()
    for line in TEXT.splitlines():
        if re.search(r"PASSWORD|SECRET|_KEY", line) and not line.lstrip().startswith("#"):
            assert REQUIRED.search(line), line


def test_make_passwords_gives_each_its_own_and_replaces_none(tmp_path: Path) -> None:
    for name in (".env.example", "Makefile"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    subprocess.run(["make", "--silent", "passwords"], cwd=tmp_path, check=True)
    text = (tmp_path / ".env").read_text()
    made = re.findall(r"^(\w+)=([0-9a-f]{48})$", text, re.MULTILINE)
    assert {name for name, _ in made} == set(REQUIRED.findall(TEXT))
    assert len({password for _, password in made}) == len(made)
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    again = subprocess.run(
        ["make", "--silent", "passwords"], cwd=tmp_path, capture_output=True, text=True
    )
    assert again.returncode != 0
    assert "is there already" in again.stdout
    assert (tmp_path / ".env").read_text() == text


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
