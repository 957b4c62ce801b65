"""The scoring path as people run it: stream processor and scorer as processes on a real stack."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from devstack.service_process import Service
from devstack.stack import Stack
from runtime.feature_store.redis import RedisFeatureStore
from runtime.kafka.clients import KafkaProducer
from runtime.kafka.protocols import BY_KEY, Message
from runtime.kafka.reader import KafkaReader
from runtime.kafka.topic_admin import create_topics
from runtime.retries import Retry
from runtime.settings import Settings, load_settings
from schemas.codec import avro
from schemas.errors import BrokerUnavailable
from schemas.topics import LABELS, TRANSACTIONS, TopicSpec
from tests.support.waiting import PATIENCE_S, until


class Pipeline:
    """Services under a topic prefix of their own. Context manager: leaves no process behind."""

    def __init__(self, stack: Stack, log_dir: Path, **settings: str) -> None:
        self.stack = stack
        self.log_dir = log_dir
        self.environment = {
            **stack.environment(),
            "FRAUD_TOPIC_PREFIX": f"e{uuid.uuid4().hex[:10]}.",
            **{f"FRAUD_{name.upper()}": value for name, value in settings.items()},
        }
        self.settings: Settings = load_settings(
            bootstrap=stack.bootstrap,
            redis_url=stack.redis_url,
            partitions=stack.partitions,
            topic_prefix=self.environment["FRAUD_TOPIC_PREFIX"],
        )
        create_topics(self.settings)
        self.producer = KafkaProducer(self.settings)
        self.services: list[Service] = []
        self._readers: dict[str, tuple[KafkaReader, list[Message]]] = {}
        self._records: dict[str, list[dict[str, Any]]] = {}

    def service(self, package: str, number: int = 1, **environment: str) -> Service:
        """Return `python -m PACKAGE run`, not yet started."""
        name = f"{package}-{number}"
        env = {**self.environment, "FRAUD_WORKER_ID": name, **environment}
        service = Service(name, ["-m", package, "run"], env=env, log_dir=self.log_dir)
        self.services.append(service)
        return service

    def start(self, *packages: str) -> list[Service]:
        """Start one service of each package and wait until all are ready."""
        services = [self.service(package) for package in packages]
        for service in services:
            service.start()
        for service in services:
            service.wait_ready()
        return services

    def send(self, topic: TopicSpec, key: str | None, value: bytes | None) -> None:
        """Send one message, its partition chosen by the key."""
        encoded = None if key is None else key.encode()
        self.producer.produce(self.settings.topic(topic), encoded, value, BY_KEY)

    def send_transactions(self, records: Iterable[dict[str, Any]]) -> None:
        """Send transactions as Avro; missing optional fields take their defaults."""
        for record in records:
            self.send(TRANSACTIONS, record["card_id"], avro.encode("Transaction", record))
        self.producer.flush(PATIENCE_S)

    def send_label(self, record: dict[str, Any]) -> None:
        """Send one label as Avro."""
        self.send(LABELS, record["card_id"], avro.encode("Label", record))
        self.producer.flush(PATIENCE_S)

    def messages(self, topic: TopicSpec) -> list[Message]:
        """Return everything that has come on a topic so far; grows from call to call.

        A broker that restarts meanwhile is waited for.
        """
        if topic.name not in self._readers:
            reader = KafkaReader(self.settings, self.settings.topic(topic))
            self._readers[topic.name] = (reader, [])
        reader, found = self._readers[topic.name]
        patiently = Retry(errors=BrokerUnavailable, max_time_s=PATIENCE_S)
        found += patiently(lambda: reader.read_to_end(PATIENCE_S))
        return found

    def records(self, topic: TopicSpec) -> list[dict[str, Any]]:
        """Return everything on a topic so far, each message decoded once: tests ask often."""
        known = self._records.setdefault(topic.name, [])
        new = self.messages(topic)[len(known) :]
        known += [avro.decode(message.value or b"")[1] for message in new]
        return known

    def wait_for(self, topic: TopicSpec, count: int) -> list[dict[str, Any]]:
        """Wait until a topic holds `count` messages, and return them decoded."""
        until(lambda: len(self.messages(topic)) >= count, f"{count} messages on {topic.name}")
        return self.records(topic)

    def labels_processed(self) -> int:
        """Return how many labels the stream processor has committed."""
        store = RedisFeatureStore.from_settings(self.settings)
        try:
            found = store.positions(range(self.settings.partitions))
        finally:
            store.close()
        topic = self.settings.topic(LABELS)
        return sum(max(cursors.get(topic, 0), 0) for cursors in found.values())

    def __enter__(self) -> Pipeline:
        """Nothing is started yet; see `start`."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop every service."""
        for service in self.services:
            service.kill()
        self.producer.close()
        for reader, _found in self._readers.values():
            reader.close()
