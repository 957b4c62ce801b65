"""Kafka and Redis with the settings of docker-compose.yml, which no container engine runs here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from redis.exceptions import AuthenticationError, NoPermissionError

from devstack.ports import free_port
from devstack.servers.kafka import Kafka
from devstack.servers.redis import RedisServer, server_command
from runtime.feature_store.redis import RedisFeatureStore
from runtime.kafka.administration.rights import RIGHTS
from runtime.kafka.administration.users import create_users
from runtime.kafka.topic_admin import TopicAdministration, create_topics
from runtime.settings import Settings, load_settings
from schemas.errors import BrokerUnavailable, ConfigurationError
from tests.support.waiting import until

ROOT = Path(__file__).parents[3]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())[
    "services"
]
PASSWORDS = {service: f"the password of {service}" for service in RIGHTS}
PASSING = {"KAFKA_LOG_DIRS", "KAFKA_CONTROLLER_QUORUM_VOTERS"}
"""Settings of the container that are about its own folders and names."""


class ComposeKafka(Kafka):
    """The broker of docker-compose.yml, on free ports of this machine; `bootstrap` is ADMIN."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "kafka", folder / "logs", 4)
        self.clients = free_port()

    def properties(self) -> dict[str, object]:
        """Return the variables of the container as its image turns them into properties."""
        usual = super().properties()
        controller = str(usual["listeners"]).rpartition(":")[2]
        ports = {"9092": self.clients, "29092": free_port(), "9094": self._port, "9093": controller}
        found = {}
        for variable, value in SERVICES["kafka"]["environment"].items():
            if variable in PASSING:
                continue
            name = re.sub("(?<=[^_])_(?=[^_])", ".", variable.removeprefix("KAFKA_").lower())
            name = name.replace("___", "-").replace("__", "_")
            value = re.sub(r"://(kafka|localhost|):(\d+)", _here(ports), value)
            found[name] = value
        kept = ("controller.quorum.voters", "log.dirs")
        return {**found, **{name: usual[name] for name in kept}}


def _here(ports: dict[str, Any]) -> Any:
    return lambda address: f"://127.0.0.1:{ports[address[2]]}"


class ComposeRedis(RedisServer):
    """The Redis of docker-compose.yml; the password of each user is its name."""

    @property
    def url(self) -> str:
        """URL by TCP, without a user."""
        return f"redis://127.0.0.1:{self._port}/0"

    def _command(self) -> list[str]:
        told = [
            re.sub(r"\$\{REDIS_PASSWORD_(\w+):[^}]*\}", lambda found: found[1].lower(), each)
            for each in SERVICES["redis"]["command"][1:]
        ]
        here = ["--bind", "127.0.0.1", "--port", str(self._port), "--dir", str(self._dir)]
        return [server_command(), *told, *here]

    def store(self, user: str) -> RedisFeatureStore:
        """Return the store as a service opens it."""
        return RedisFeatureStore(self.url, b"", username=user, password=user)


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeKafka]:
    """A broker as kafka-setup leaves it."""
    with ComposeKafka(tmp_path_factory.mktemp("compose")) as running:
        administrator = load_settings(bootstrap=running.bootstrap)
        create_topics(administrator)
        create_users(administrator, PASSWORDS)
        create_users(administrator, PASSWORDS)  # it runs at each start
        yield running


@pytest.fixture(scope="module")
def feature_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeRedis]:
    folder = tmp_path_factory.mktemp("redis")
    with ComposeRedis(folder, folder) as running:
        yield running


def logged_in(kafka: ComposeKafka, user: str, password: str) -> Settings:
    return load_settings(
        bootstrap=f"127.0.0.1:{kafka.clients}",
        kafka_security="SASL_PLAINTEXT",
        kafka_username=user,
        kafka_password=password,
    )


@pytest.mark.parametrize("service", RIGHTS)
def test_each_service_logs_in_and_may_do_what_it_needs(kafka: ComposeKafka, service: str) -> None:
    administration = TopicAdministration(logged_in(kafka, service, PASSWORDS[service]))
    until(lambda: not administration.check(service).problems, f"the rights of {service}")


def test_a_service_may_not_do_what_another_one_does(kafka: ComposeKafka) -> None:
    found = TopicAdministration(logged_in(kafka, "store", PASSWORDS["store"])).check("scorer")
    assert any("may not Write topic decisions" in line for line in found.problems)


def test_nobody_comes_in_without_the_right_password(kafka: ComposeKafka) -> None:
    wrong = logged_in(kafka, "scorer", "a guess")
    unknown = load_settings(bootstrap=f"127.0.0.1:{kafka.clients}")
    for settings in (wrong, unknown):
        with pytest.raises(BrokerUnavailable):
            TopicAdministration(settings, timeout_s=5.0).check("scorer")


def test_a_user_without_a_password_is_not_made(kafka: ComposeKafka) -> None:
    administrator = load_settings(bootstrap=kafka.bootstrap)
    with pytest.raises(ConfigurationError, match=r"no password is given for scorer$"):
        create_users(administrator, {**PASSWORDS, "scorer": ""})


def test_a_service_cannot_make_users(kafka: ComposeKafka) -> None:
    with pytest.raises(ConfigurationError, match="log in as an administrator"):
        create_users(logged_in(kafka, "scorer", PASSWORDS["scorer"]), PASSWORDS)


def test_redis_lets_the_worker_write_and_the_gateway_read(feature_store: ComposeRedis) -> None:
    worker, gateway = feature_store.store("stream_features"), feature_store.store("gateway")
    worker.claim_format(1)
    assert gateway.load([b"format"]) == [b"1"]
    with pytest.raises(Exception, match=r"(?i)permission"):
        gateway.claim_format(2)
    assert worker.load([b"format"]) == [b"1"]


def test_redis_lets_nobody_else_do_anything_but_ask_whether_it_is_there(
    feature_store: ComposeRedis,
) -> None:
    with redis.Redis.from_url(feature_store.url) as nobody:
        assert nobody.ping()
        for refused in (lambda: nobody.get("format"), nobody.flushall, nobody.info):
            with pytest.raises(NoPermissionError):
                refused()
    with (
        redis.Redis.from_url(feature_store.url, username="gateway", password="x") as guess,
        pytest.raises(AuthenticationError),
    ):
        guess.ping()
    with redis.Redis.from_url(
        feature_store.url, username="stream_features", password="stream_features"
    ) as worker:
        assert worker.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        for refused in (worker.flushall, lambda: worker.config_set("maxmemory", 1)):
            with pytest.raises(NoPermissionError):
                refused()
