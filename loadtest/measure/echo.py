"""The bare echo: the same hops through Kafka as the services make, without any work in between.

Two processes copy transactions to features and features to decisions, partition by partition, in
batches of whatever has arrived. No system of this shape can be faster on the same machine.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
import time
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Final, Self

from runtime.kafka.clients import KafkaProducer
from runtime.kafka.reader import KafkaReader
from runtime.logs import configure_logging
from runtime.settings import Settings
from schemas.errors import BrokerUnavailable, FatalError
from schemas.topics import DECISIONS, FEATURES, TRANSACTIONS, TopicSpec

HOPS: Final = ((TRANSACTIONS, FEATURES), (FEATURES, DECISIONS))
START_S: Final = 30.0


def copy(settings: Settings, source: TopicSpec, target: TopicSpec, pipe: Connection) -> None:
    """Copy one topic to another until the parent closes `pipe`. Entry point of a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    configure_logging(settings, "echo")
    gc.disable()
    reader = KafkaReader(settings, settings.topic(source))
    producer = KafkaProducer(settings)
    topic = settings.topic(target)
    reader.poll_batch(1, 0.2)
    pipe.send(True)
    looked = time.monotonic()
    while True:
        try:
            messages = reader.poll_batch(10_000, 0.02)
        except BrokerUnavailable:
            continue  # the broker will come back
        if messages:
            producer.produce_many(topic, [(m.partition, m.key, m.value) for m in messages])
        if time.monotonic() - looked > 0.1:
            looked = time.monotonic()
            if pipe.poll():
                break
    reader.close()
    producer.close()


class BareEcho:
    """Context manager that starts both processes on entry and ends them on exit."""

    def __init__(self, settings: Settings) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes: list[BaseProcess] = []
        for number, (source, target) in enumerate(HOPS, 1):
            ours, theirs = spawn.Pipe()
            process = spawn.Process(
                target=copy,
                args=(settings, source, target, theirs),
                name=f"echo-{number}",
                daemon=True,
            )
            self._pipes.append(ours)
            self._processes.append(process)

    def pids(self) -> dict[str, int]:
        """Return the process ids by name."""
        return {each.name: each.pid for each in self._processes if each.pid is not None}

    def __enter__(self) -> Self:
        """Start both processes; blocks until they read."""
        for process in self._processes:
            process.start()
        for pipe in self._pipes:
            if not pipe.poll(START_S) or not pipe.recv():
                raise FatalError(f"the bare echo did not start within {START_S:.0f} s")
        return self

    def __exit__(self, *_: object) -> None:
        """End both processes."""
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            pipe.close()
            process.join(5.0)
            if process.is_alive():
                process.kill()
                process.join()
