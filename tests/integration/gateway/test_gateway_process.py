"""`python -m gateway run` as a process, with the real pipeline and the store behind it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devstack.ports import free_port
from devstack.service_process import Service
from devstack.stack import Stack
from gateway.client import FraudClient, GatewayError
from schemas.topics import DECISIONS
from tests.support.gateway.stand_ins import transaction
from tests.support.pipeline import Pipeline
from tests.support.waiting import PATIENCE_S, until

ROOT = Path(__file__).parents[3]
PATIENT_MS = 30_000


class Gateways:
    """Two gateways, side by side, and the command line of their keys."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.ports = [free_port(), free_port()]
        self.services = [self._service(f"gateway-{port}", port) for port in self.ports]
        self.key = self.keys("create", "tests", "--scopes", "score,read").strip()

    def _service(self, name: str, port: int) -> Service:
        env = {**self.pipeline.environment, "FRAUD_API_PORT": str(port)}
        service = Service(name, ["-m", "gateway", "run"], env=env, log_dir=self.pipeline.log_dir)
        self.pipeline.services.append(service)
        return service

    def keys(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "gateway", "keys", *arguments],
            env={**os.environ, **self.pipeline.environment},
            cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def client(self, number: int = 0, key: str | None = None) -> FraudClient:
        url = f"http://127.0.0.1:{self.ports[number]}"
        return FraudClient(url, key or self.key, deadline_ms=PATIENT_MS)


@pytest.fixture(scope="module")
def gateways(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateways]:
    directory = tmp_path_factory.mktemp("gateway")
    database = f"sqlite:///{directory / 'fraud.db'}"
    with Pipeline(stack, directory / "logs", database_url=database) as pipeline:
        made = Gateways(pipeline)
        pipeline.start("stream_features", "scorer")
        store = Service(
            "store", ["-m", "database", "store"], env=pipeline.environment, log_dir=pipeline.log_dir
        )
        pipeline.services.append(store)
        for service in (store, *made.services):
            service.start()
        for service in (store, *made.services):
            service.wait_ready()
        yield made


def on_topic(gateways: Gateways, name: str) -> list[dict[str, Any]]:
    found = gateways.pipeline.records(DECISIONS)
    return [each for each in found if each["transaction_id"] == name]


def test_the_answer_is_the_record_and_every_gateway_gives_it(gateways: Gateways) -> None:
    sent = transaction(1, transaction_id="side-by-side")
    with gateways.client(0) as one, gateways.client(1) as other:
        answer = one.score(sent)
        assert not answer["fallback"]
        assert other.score(sent) == answer == other.decision("side-by-side")
        [record] = on_topic(gateways, "side-by-side")
        assert answer["position"] == {
            "partition": record["source_partition"], "offset": record["source_offset"],
        }  # fmt: skip
        assert answer["decision"] == record["decision"]
        with pytest.raises(GatewayError) as caught:
            other.score(sent | {"amount": 99})
        assert caught.value.status == 409
        assert one.card(sent["card_id"])["exact_events"] == 1


def test_a_batch_goes_through_the_pipeline_in_order(gateways: Gateways) -> None:
    rows = [transaction(n, transaction_id=f"batch-{n}") for n in range(300)]
    rows.insert(100, {"transaction_id": "bad"})
    with gateways.client() as client:
        answers = list(client.score_many(rows))
    bad = answers.pop(100)
    assert isinstance(bad, GatewayError)
    assert bad.line == 101
    names = [each["transaction_id"] for each in answers if not isinstance(each, GatewayError)]
    assert names == [f"batch-{n}" for n in range(300)]


def test_a_restarted_gateway_answers_a_repeat_from_topic_and_store(gateways: Gateways) -> None:
    sent = transaction(5, transaction_id="before-restart")
    with gateways.client(0) as client:
        first = client.score(sent)
    gateways.services[0].stop()
    gateways.services[0].start()
    gateways.services[0].wait_ready()
    with gateways.client(0) as client:
        assert client.score(sent) == first == client.decision("before-restart")


def test_a_revoked_key_opens_nothing_after_a_moment(gateways: Gateways) -> None:
    key = gateways.keys("create", "leaked", "--scopes", "read", "--expires", "90d").strip()
    with gateways.client(0, key) as client:
        client.card(transaction(1)["card_id"])
        gateways.keys("revoke", key.split("_")[1])

        def refused() -> bool:
            try:
                client.card(transaction(1)["card_id"])
            except GatewayError as error:
                return error.status == 401
            return False

        until(refused, "the revoked key is refused")
    listed = gateways.keys("list")
    assert "leaked" in listed
    assert "revoked" in listed
    assert key not in listed


def test_what_is_not_http_is_refused_by_a_problem(gateways: Gateways) -> None:
    with socket.create_connection(("127.0.0.1", gateways.ports[0]), timeout=PATIENCE_S) as raw:
        raw.sendall(b"nonsense\r\n\r\n")
        answer = raw.recv(10_000)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"application/problem+json" in answer


def test_no_key_and_no_card_is_in_the_logs(gateways: Gateways) -> None:
    logs = [path.read_text() for path in gateways.pipeline.log_dir.glob("gateway-*.log")]
    assert len(logs) == 2
    secret = gateways.key.split("_", 2)[2]
    for text in logs:
        assert "started" in text
        assert secret not in text
        assert transaction(1)["card_id"] not in text
