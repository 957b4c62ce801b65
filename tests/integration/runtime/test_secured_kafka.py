"""Kafka with an authoriser, SCRAM, OAUTHBEARER and client certificates, and the documented rights.

docs/kafka.md has the table of rights; it is read from there.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest

from devstack.servers.redis import RedisServer
from devstack.service_process import Service
from runtime.kafka.administration.rights import RIGHTS
from runtime.kafka.clients import KafkaProducer
from runtime.kafka.exclusive_log import KafkaExclusiveLog
from runtime.kafka.partitioner import partition_of
from runtime.kafka.reader import read_all
from runtime.kafka.topic_admin import TopicAdministration, create_topics
from runtime.settings import Settings, load_settings
from schemas.codec import avro
from schemas.errors import BrokerUnavailable, ConfigurationError
from schemas.topics import ALL_TOPICS
from tests.support.http_server import Answer, Asked, serving
from tests.support.runtime.secured_kafka import PASSWORD, Right, SecuredKafka
from tests.support.waiting import until

ROOT = Path(__file__).parents[3]
COMMANDS = {
    "stream_features": ("stream_features", "run"),
    "scorer": ("scorer", "run"),
    "gateway": ("gateway", "run"),
    "store": ("database", "store"),
    "dashboard": ("dashboard", "run"),
    "monitor": ("monitor", "run"),
    "archiver": ("trainer", "archive"),
    "trainer": ("trainer", "run"),
    "online": ("trainer", "online"),
}
WAITS_FOR_A_CHAMPION = "no champion yet"


def documented() -> dict[str, list[Right]]:
    """Return the rights of each service by the table of docs/kafka.md."""
    text = (ROOT / "docs" / "kafka.md").read_text().split("\n## Rights\n")[1]
    rows = [
        [cell.strip() for cell in line.strip("|\n").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    columns = [
        re.fullmatch(r"(\w+) on (topic|group|transactional id)s?", title) for title in rows[0][1:]
    ]
    found: dict[str, list[Right]] = {}
    for service, *cells in rows[2:]:
        found[service] = [
            (column[1], column[2], name.strip())
            for column, cell in zip(columns, cells, strict=True)
            if column is not None
            for name in cell.split(",")
            if name.strip()
        ]
    return found


DOCUMENTED = documented()


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """A secured broker, on which an administrator has made topics and users."""
    with SecuredKafka(tmp_path_factory.mktemp("secured")) as running:
        create_topics(load_settings(bootstrap=running.bootstrap))
        configs: list[Right] = [("DescribeConfigs", "topic", spec.name) for spec in ALL_TOPICS]
        for service, rights in DOCUMENTED.items():
            running.add_user(service)
            running.grant(service, [*rights, *configs])
        yield running


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    folder = tmp_path_factory.mktemp("redis")
    with RedisServer(folder, folder) as running:
        yield running


def logged_in(kafka: SecuredKafka, user: str, **more: Any) -> Settings:
    return load_settings(
        bootstrap=kafka.listeners["SCRAM"],
        kafka_security="SASL_PLAINTEXT",
        kafka_username=user,
        kafka_password=PASSWORD,
        **more,
    )


def environment(kafka: SecuredKafka, redis: RedisServer, user: str, folder: Path) -> dict[str, str]:
    return {
        "FRAUD_BOOTSTRAP": kafka.listeners["SCRAM"],
        "FRAUD_KAFKA_SECURITY": "SASL_PLAINTEXT",
        "FRAUD_KAFKA_USERNAME": user,
        "FRAUD_KAFKA_PASSWORD": PASSWORD,
        "FRAUD_REDIS_URL": redis.url,
        "FRAUD_WORKER_ID": user,
        "FRAUD_API_PORT": "0",
        "FRAUD_DASHBOARD_PORT": "0",
        "FRAUD_DATABASE_URL": f"sqlite:///{folder / 'fraud.db'}",
        "FRAUD_ARCHIVE_URL": str(folder / "archive"),
    }


def test_the_table_of_rights_is_what_the_services_ask_for() -> None:
    asked = {
        service: {
            *((operation, "topic", spec.name) for spec, operation in rights.topics()),
            *(("Read", "group", name) for name in rights.groups),
            *(("Write", "transactional id", f"{spec.name}-writer") for spec in rights.writers),
        }
        for service, rights in RIGHTS.items()
    }
    assert {service: set(rights) for service, rights in DOCUMENTED.items()} == asked
    assert set(COMMANDS) == set(RIGHTS)


def test_every_service_starts_and_works_with_the_documented_rights(
    kafka: SecuredKafka, redis: RedisServer, tmp_path: Path
) -> None:
    services = {}
    try:
        for user, (package, command) in COMMANDS.items():
            arguments = ["-m", package, command]
            if user == "trainer":
                arguments += ["--state", str(tmp_path / "runs")]
            if user == "online":
                arguments += ["--state", str(tmp_path / "online")]
            service = Service(
                user, arguments, env=environment(kafka, redis, user, tmp_path), log_dir=tmp_path
            )
            services[user] = service
            service.start()

        def started(user: str) -> bool:
            log = (tmp_path / f"{user}.log").read_text()
            assert services[user].running, log[-3000:]
            return _ready(services[user])

        for user in services:
            until(lambda user=user: started(user), f"{user} is ready")  # type: ignore[misc]
        administrator = load_settings(bootstrap=kafka.bootstrap)
        producer = KafkaProducer(administrator)
        record = {
            "transaction_id": "t1",
            "event_time": time.time_ns() // 1_000_000,
            "card_id": "card",
            "merchant_id": "shop",
            "amount": 100,
            "currency": "EUR",
        }
        producer.produce("transactions", b"card", avro.encode("Transaction", record))
        producer.flush()
        until(lambda: len(read_all(administrator, "decisions")) == 1, "a decision")
        for user, service in services.items():
            log = (tmp_path / f"{user}.log").read_text()
            assert service.running, log[-3000:]
            assert "uthoriz" not in log, log[-3000:]
            assert "not verified" not in log
    finally:
        for service in services.values():
            service.kill()


def _ready(service: Service) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{service.health_port}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except HTTPError as error:
        return WAITS_FOR_A_CHAMPION in error.read().decode()
    except (URLError, OSError):
        return False


TAKEN = [
    (service, right)
    for service, rights in DOCUMENTED.items()
    for right in rights
    if right[1] != "transactional id"
]


@pytest.mark.parametrize(("service", "right"), TAKEN, ids=[f"{s}: {' '.join(r)}" for s, r in TAKEN])
def test_each_right_taken_away_gives_one_clear_line(
    kafka: SecuredKafka, service: str, right: Right
) -> None:
    operation, kind, name = right
    administration = TopicAdministration(logged_in(kafka, service))
    kafka.withdraw(service, right)
    try:
        expected = [
            f"the Kafka user {service} may not {operation} {kind} {name}, which {service} needs: "
            "grant it (docs/kafka.md has the table of rights)"
        ]
        until(lambda: bool(administration.check(service).problems), "the right is gone")
        assert administration.check(service).problems == expected
    finally:
        kafka.grant(service, [right])
    until(lambda: not administration.check(service).problems, "the right is back")


def test_without_the_right_to_write_models_there_is_one_clear_line(kafka: SecuredKafka) -> None:
    right: Right = ("Write", "transactional id", "models-writer")
    settings = logged_in(kafka, "trainer")
    log = KafkaExclusiveLog(settings, "models")
    kafka.withdraw("trainer", right)
    try:
        with pytest.raises(ConfigurationError, match="models-writer: grant Write"):
            log.append(lambda _: [(b"m", b"never")])
    finally:
        kafka.grant("trainer", [right])
    until(lambda: _appended(log), "an entry")
    assert [message.value for message in read_all(settings, "models")] == [b"entry"]
    log.append(lambda _: [(b"m", b"")])
    log.close()


def _appended(log: KafkaExclusiveLog) -> bool:
    try:
        log.append(lambda found: [] if found else [(b"m", b"entry")])
    except ConfigurationError:  # the broker has not heard of the right yet
        return False
    return True


def test_a_process_without_a_right_ends_with_that_line(
    kafka: SecuredKafka, redis: RedisServer, tmp_path: Path
) -> None:
    right: Right = ("Read", "topic", "features")
    kafka.withdraw("scorer", right)
    administration = TopicAdministration(logged_in(kafka, "scorer"))
    try:
        until(lambda: bool(administration.check("scorer").problems), "the right is gone")
        answer = subprocess.run(
            [sys.executable, "-m", "scorer", "run"],
            capture_output=True, text=True, env=environment(kafka, redis, "scorer", tmp_path),
        )  # fmt: skip
        assert answer.returncode == 2
        assert answer.stderr.splitlines()[-1] == (
            "error: the Kafka user scorer may not Read topic features, which scorer needs: grant "
            "it (docs/kafka.md has the table of rights)"
        )
    finally:
        kafka.grant("scorer", [right])


def test_without_the_right_to_describe_configurations_it_says_so_and_goes_on(
    kafka: SecuredKafka,
) -> None:
    right: Right = ("DescribeConfigs", "topic", "policy")
    administration = TopicAdministration(logged_in(kafka, "store"))
    kafka.withdraw("store", right)
    try:
        until(lambda: bool(administration.check("store").warnings), "the right is gone")
        found = administration.check("store")
        assert found.problems == []
        assert found.warnings == [
            "the configuration was not verified of policy: grant DescribeConfigs there"
        ]
    finally:
        kafka.grant("store", [right])


def test_who_may_not_create_topics_is_told_who_can(kafka: SecuredKafka) -> None:
    kafka.add_user("nobody")
    prefixed = logged_in(kafka, "nobody", topic_prefix="new.")
    for spec in ALL_TOPICS:
        kafka.grant("nobody", [("Describe", "topic", f"new.{spec.name}")])
    administration = TopicAdministration(prefixed)
    until(lambda: len(administration.check().problems) == len(ALL_TOPICS), "the rights are known")
    assert administration.check().warnings == []
    unseen = logged_in(kafka, "nobody", topic_prefix="other.")
    [warning] = TopicAdministration(unseen).check().warnings
    assert warning.startswith("this user may not see other.alerts, other.dead-letter, ")
    assert administration.check().problems[0] == (
        "topic new.alerts does not exist: run `python -m runtime topics create`"
    )
    problems = administration.check(create=True).problems
    assert len(problems) == len(ALL_TOPICS)
    assert all(
        "run `python -m runtime topics create` as a user who may" in each for each in problems
    )
    assert administration.created == []
    environment = {
        "FRAUD_BOOTSTRAP": kafka.bootstrap, "FRAUD_TOPIC_PREFIX": "new.", "PATH": "",
    }  # fmt: skip
    answer = subprocess.run(
        [sys.executable, "-m", "runtime", "topics", "create", "--json", "-"],
        capture_output=True, text=True, env=environment, cwd=ROOT,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert sorted(json.loads(answer.stdout)["created"]) == sorted(
        f"new.{spec.name}" for spec in ALL_TOPICS
    )
    until(lambda: administration.check().problems == [], "the topics are there")


def test_a_wrong_password_is_told_with_the_broker_s_words(kafka: SecuredKafka) -> None:
    settings = logged_in(kafka, "scorer").model_copy(update={"kafka_username": "somebody"})
    with pytest.raises(BrokerUnavailable, match="uthentication") as found:
        create_topics(settings, timeout_s=3.0)
    assert "FRAUD_KAFKA_" in str(found.value)


@pytest.fixture
def token_server() -> Iterator[str]:
    """Gives unsecured tokens, which Kafka takes unless it is told how to verify them."""

    def answer(asked: Asked) -> Answer:
        if asked.body != (
            b"grant_type=client_credentials&client_id=stream_features"
            b"&client_secret=a+secret&scope=kafka"
        ):
            return Answer(401)
        token = {"access_token": unsecured_token("stream_features"), "expires_in": 300}
        return Answer(200, json.dumps(token).encode())

    with serving(answer) as address:
        yield f"{address}/token"


def unsecured_token(subject: str) -> str:
    now = int(time.time())
    parts = ({"alg": "none"}, {"sub": subject, "iat": now, "exp": now + 300})
    return "".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") + "."
        for part in parts
    )


def serves(
    kafka: SecuredKafka, redis: RedisServer, folder: Path, number: int, more: Mapping[str, str]
) -> None:
    """Start a stream processor that logs in as `more` says, and see a vector come out of it."""
    env = {**environment(kafka, redis, "stream_features", folder), **more}
    env = {name: value for name, value in env.items() if value}
    service = Service(
        f"by-{number}", ["-m", "stream_features", "run", "--from-start"], env=env, log_dir=folder
    )
    administrator = load_settings(bootstrap=kafka.bootstrap)
    before = len(read_all(administrator, "features"))
    record = {
        "transaction_id": f"by-{number}",
        "event_time": time.time_ns() // 1_000_000,
        "card_id": "card",
        "merchant_id": "shop",
        "amount": 100,
        "currency": "EUR",
    }
    try:
        service.start()
        service.wait_ready()
        producer = KafkaProducer(administrator)
        place = partition_of(b"card", 4)
        message = avro.encode("Transaction", record)
        producer.produce("transactions", b"card", message, place)
        producer.flush()
        until(lambda: len(read_all(administrator, "features")) > before, "a vector")
    finally:
        service.kill()


def test_tokens_let_both_kinds_of_clients_in(
    kafka: SecuredKafka, redis: RedisServer, tmp_path: Path, token_server: str
) -> None:
    more = {
        "FRAUD_BOOTSTRAP": kafka.listeners["OAUTH"],
        "FRAUD_KAFKA_SASL_MECHANISM": "OAUTHBEARER",
        "FRAUD_KAFKA_USERNAME": "stream_features",
        "FRAUD_KAFKA_PASSWORD": "a secret",
        "FRAUD_KAFKA_TOKEN_URL": token_server,
        "FRAUD_KAFKA_TOKEN_SCOPE": "kafka",
    }
    serves(kafka, redis, tmp_path, 1, more)


def test_a_client_certificate_lets_both_kinds_of_clients_in(
    kafka: SecuredKafka, redis: RedisServer, tmp_path: Path
) -> None:
    kafka.grant("CN=localhost", DOCUMENTED["stream_features"])
    more = {
        "FRAUD_BOOTSTRAP": kafka.listeners["TLS"],
        "FRAUD_KAFKA_SECURITY": "SSL",
        "FRAUD_KAFKA_USERNAME": "",
        "FRAUD_KAFKA_PASSWORD": "",
        "FRAUD_KAFKA_CA": str(kafka.certificate),
        "FRAUD_KAFKA_CERTIFICATE": str(kafka.certificate),
        "FRAUD_KAFKA_KEY": str(kafka.key),
    }
    serves(kafka, redis, tmp_path, 2, more)
