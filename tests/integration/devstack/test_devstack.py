"""devstack against real servers: crash, restart, and the death of the parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import redis
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from devstack.stack import ADDRESS_FILE, Stack, running
from schemas.errors import ConfigurationError
from tests.support.waiting import PATIENCE_S


def _create(stack: Stack, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": stack.bootstrap})
    for done in admin.create_topics([NewTopic(topic, 1, 1)]).values():
        done.result(30)


def _produce(stack: Stack, topic: str, value: bytes) -> None:
    producer = Producer(
        {"bootstrap.servers": stack.bootstrap, "acks": "all", "message.max.bytes": 2_500_000}
    )
    producer.produce(topic, value)
    assert producer.flush(30) == 0


def _first(stack: Stack, topic: str) -> bytes | None:
    consumer = Consumer({"bootstrap.servers": stack.bootstrap, "group.id": topic})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        message = consumer.poll(30)
        assert message is not None
        assert message.error() is None
        return message.value()
    finally:
        consumer.close()


def test_kafka_keeps_acknowledged_records_over_a_crash(stack: Stack) -> None:
    _create(stack, "devstack-crash")
    _produce(stack, "devstack-crash", b"kept")
    address, crashed = stack.bootstrap, stack.kafka.pid
    stack.kafka.kill()
    assert not psutil.pid_exists(crashed)
    stack.kafka.start()
    assert stack.bootstrap == address
    assert _first(stack, "devstack-crash") == b"kept"


def test_kafka_keeps_records_over_a_restart_and_takes_two_megabytes(stack: Stack) -> None:
    _create(stack, "devstack-restart")
    value = os.urandom(2_000_000)
    _produce(stack, "devstack-restart", value)
    stack.kafka.restart()
    assert _first(stack, "devstack-restart") == value


@pytest.mark.parametrize("crash", [True, False])
def test_redis_keeps_its_data(stack: Stack, crash: bool) -> None:
    address = stack.redis_url
    with redis.Redis.from_url(address) as client:
        client.set(f"devstack:{crash}", "kept")
        if crash:
            stack.redis.kill()
            stack.redis.start()
        else:
            stack.redis.restart()
        assert stack.redis_url == address
        assert client.get(f"devstack:{crash}") == b"kept"


def test_a_second_stack_on_the_same_directory_is_refused(stack: Stack) -> None:
    with pytest.raises(ConfigurationError, match="another stack"):
        Stack(stack.data_dir).start()
    assert running(stack.data_dir) is not None


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_children_end_with_their_parent(tmp_path: Path, how: signal.Signals) -> None:
    """SIGKILL leaves the parent no say; SIGTERM and SIGINT must also end it with code 0."""
    up = subprocess.Popen(
        [sys.executable, "-m", "devstack", "up", "--data", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        # A suite that runs in the background ignores SIGINT, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert up.stdout is not None
        assert up.stdout.readline().startswith("export FRAUD_BOOTSTRAP=")
        assert json.loads((tmp_path / ADDRESS_FILE).read_text())["pid"] == up.pid
        children = psutil.Process(up.pid).children(recursive=True)
        assert len(children) == 2
        up.send_signal(how)
        code = up.wait(60)
        _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
        assert alive == []
        assert code == (-signal.SIGKILL if how == signal.SIGKILL else 0)
        assert running(tmp_path) is None
    finally:
        up.kill()
        up.wait()


def test_mlflow_is_part_of_the_stack_only_when_asked_for(tmp_path: Path) -> None:
    assert Stack(tmp_path).mlflow is None
    with_it = Stack(tmp_path, mlflow=True)
    assert with_it.mlflow is not None
    assert with_it.environment()["FRAUD_MLFLOW_TRACKING_URI"] == with_it.mlflow.url
