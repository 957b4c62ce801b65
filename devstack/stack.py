"""Kafka, Redis and optionally MLflow, started and stopped together."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import IO, Self

from devstack.servers.kafka import Kafka
from devstack.servers.mlflow import MlflowServer
from devstack.servers.redis import RedisServer
from schemas.errors import ConfigurationError

ADDRESS_FILE = "stack.json"


class Stack:
    """Context manager that starts the servers on entry and stops them on exit.

    The data directory stays, so that a later start finds the same topics and keys.
    """

    def __init__(self, data_dir: Path, partitions: int = 4, *, mlflow: bool = False) -> None:
        self.data_dir = data_dir.resolve()
        self.partitions = partitions
        logs = self.data_dir / "logs"
        self.kafka = Kafka(self.data_dir / "kafka", logs, partitions)
        self.redis = RedisServer(self.data_dir / "redis", logs)
        self.mlflow = MlflowServer(self.data_dir / "mlflow", logs) if mlflow else None
        self._lock: IO[str] | None = None

    @property
    def bootstrap(self) -> str:
        """Bootstrap servers of Kafka."""
        return self.kafka.bootstrap

    @property
    def redis_url(self) -> str:
        """URL of Redis."""
        return self.redis.url

    def environment(self) -> dict[str, str]:
        """Return the environment variables that point our services at this stack."""
        settings = {
            "FRAUD_BOOTSTRAP": self.bootstrap,
            "FRAUD_REDIS_URL": self.redis_url,
            "FRAUD_PARTITIONS": str(self.partitions),
        }
        if self.mlflow is not None:
            settings["FRAUD_MLFLOW_TRACKING_URI"] = self.mlflow.url
        return settings

    def start(self) -> None:
        """Start every server and block until all of them are ready.

        Raises:
            ConfigurationError: another stack uses the directory, or a program is missing.
        """
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.data_dir)
        except OSError as error:
            raise ConfigurationError(
                f"cannot write to {self.data_dir}: {error.strerror}: choose another directory"
            ) from error
        try:
            self.kafka.start(wait=False)  # Java takes longest, so the others start meanwhile
            if self.mlflow is not None:
                self.mlflow.start(wait=False)
            self.redis.start()
            self.kafka.wait_ready()
            if self.mlflow is not None:
                self.mlflow.wait_ready()
        except BaseException:
            self.stop()
            raise
        addresses = {"pid": os.getpid(), **self.environment()}
        (self.data_dir / ADDRESS_FILE).write_text(json.dumps(addresses, indent=1) + "\n")

    def stop(self) -> None:
        """Stop every server; does nothing if they are stopped."""
        try:
            self.kafka.stop()
        finally:
            self.redis.stop()
            if self.mlflow is not None:
                self.mlflow.stop()
        (self.data_dir / ADDRESS_FILE).unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        """Start every server; see `start`."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop every server; see `stop`."""
        self.stop()


def _lock(data_dir: Path) -> IO[str]:
    lock = (data_dir / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise ConfigurationError(
            f"another stack is using {data_dir}: stop it with `python -m devstack down`, "
            "or choose another directory"
        ) from None
    return lock


def running(data_dir: Path) -> dict[str, str] | None:
    """Return the addresses of the stack that is running in `data_dir`, or None.

    The result is empty while that stack is starting or stopping.
    """
    path = data_dir / ADDRESS_FILE
    try:
        with (data_dir / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return None
    except FileNotFoundError:
        return None
    except BlockingIOError:
        if not path.exists():
            return {}  # still starting, or stopping
        return {key: str(value) for key, value in json.loads(path.read_text()).items()}
