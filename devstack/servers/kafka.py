"""A one-node Kafka (KRaft) as a child process."""

from __future__ import annotations

import base64
import os
import shlex
import subprocess
import uuid
from functools import cached_property
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from devstack.child import Child
from devstack.fetch.java import java_command, kafka_class_path
from devstack.ports import free_port
from devstack.servers.server import Server
from schemas.errors import FatalError

_LOG4J = """\
rootLogger.level=WARN
rootLogger.appenderRef.out.ref=out
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %p %c{1}: %m%n
"""


JVM_OPTIONS: Final = "KAFKA_JVM_PERFORMANCE_OPTS"
"""Environment variable whose options replace `USUAL`, as in Kafka's own scripts."""
USUAL: Final = "-XX:+UseSerialGC"
QUICK: Final = f"{USUAL} -XX:TieredStopAtLevel=1"
"""For a short life: Java starts in two thirds of the time, but is slower after a minute."""


class Kafka(Server):
    """One process that is both broker and controller; see `Server`."""

    name = "Kafka"
    ready_s = 300.0  # after a crash it recovers its logs first

    def __init__(self, data_dir: Path, log_dir: Path, partitions: int) -> None:
        super().__init__()
        self._dir = data_dir
        self._log_dir = log_dir
        self._partitions = partitions
        self._controller_port = free_port()

    @property
    def bootstrap(self) -> str:
        """Bootstrap servers for clients."""
        return f"127.0.0.1:{self._port}"

    @cached_property
    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def _ready(self) -> bool:
        """Return whether the broker lists itself in the metadata."""
        try:
            return bool(self._admin.list_topics(timeout=1.0).brokers)
        except KafkaException:
            return False

    def _prepare(self) -> Child:
        self._dir.mkdir(parents=True, exist_ok=True)
        log4j = self._dir / "log4j2.properties"
        log4j.write_text(_LOG4J)
        properties = self._dir / "server.properties"
        properties.write_text("".join(f"{k}={v}\n" for k, v in self.properties().items()))
        java = [
            java_command(),
            "-Xmx512m",
            "-Xms256m",
            f"-Dlog4j2.configurationFile={log4j}",
            "-cp",
            kafka_class_path(),
        ]
        if not (self._dir / "data" / "meta.properties").exists():
            self._format([*java, *shlex.split(QUICK)], properties)
        java += shlex.split(os.environ.get(JVM_OPTIONS, USUAL))
        return Child("Kafka", [*java, "kafka.Kafka", str(properties)], self._log_dir / "kafka.log")

    def _format(self, java: list[str], properties: Path) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if cluster.startswith("-"):  # the tool would take it for an option
            cluster = "A" + cluster[1:]
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties)]
        answer = subprocess.run([*java, *tool], capture_output=True, text=True)
        if answer.returncode != 0:
            raise FatalError(f"Kafka's directory could not be formatted: {answer.stderr.strip()}")

    def properties(self) -> dict[str, object]:
        """Return the broker's server.properties; a subclass may add listeners and rights."""
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            "listeners": (
                f"PLAINTEXT://127.0.0.1:{self._port},CONTROLLER://127.0.0.1:{self._controller_port}"
            ),
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self._port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self._dir / "data",
            "num.partitions": self._partitions,
            "num.network.threads": 1,
            "num.io.threads": 2,
            "auto.create.topics.enable": "false",
            "default.replication.factor": 1,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.num.partitions": 4,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "min.insync.replicas": 1,
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,
            "message.max.bytes": 3_000_000,
            "replica.fetch.max.bytes": 3_000_000,
        }
