"""Where a run takes place: a stack of its own or one that is there, and our services on it."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from devstack.service_process import Service
from devstack.stack import Stack, running
from loadtest.deploy.exposition import label_values, read_metrics
from runtime.kafka.topic_admin import create_topics
from runtime.settings import Settings, load_settings
from schemas.errors import ConfigurationError, FatalError

READY_S: Final = 90.0
LOADED_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Deployment:
    """Kafka and Redis in use: `env` points services to them, `pids` are theirs if they are ours."""

    settings: Settings
    env: Mapping[str, str]
    log_dir: Path
    pids: Mapping[str, int] = field(default_factory=dict)

    def with_prefix(self, prefix: str) -> Deployment:
        """Return the same place under other topic and key names."""
        settings = self.settings.model_copy(update={"topic_prefix": prefix})
        env = {**self.env, "FRAUD_TOPIC_PREFIX": prefix}
        return Deployment(settings, env, self.log_dir, self.pids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the options ask for: addresses of a stack that is there, or none for one of our own."""

    bootstrap: str | None = None
    redis: str | None = None
    prefix: str | None = None
    partitions: int = 4
    data: Path = Path("var/loadtest")


@contextmanager
def deployed(target: Target) -> Iterator[Deployment]:
    """Yield the place with its topics created; a stack of our own is stopped and its data removed.

    Raises:
        ConfigurationError: only one of the two addresses was given, or see Stack.start.
    """
    if (target.bootstrap is None) != (target.redis is None):
        raise ConfigurationError(
            "give both --bootstrap and --redis, or neither for a stack of our own"
        )
    target.data.mkdir(parents=True, exist_ok=True)
    if target.bootstrap is not None and target.redis is not None:
        prefix = f"load-{os.getpid()}-" if target.prefix is None else target.prefix
        logs = target.data / "logs"
        yield _place(target.bootstrap, target.redis, prefix, target.partitions, logs, {})
        return
    directory = Path(tempfile.mkdtemp(prefix="run-", dir=target.data))
    try:
        with Stack(directory, target.partitions) as stack:
            yield place_on(stack, target.prefix or "")
    except BaseException:
        for name in ("kafka", "redis"):
            shutil.rmtree(directory / name, ignore_errors=True)  # the logs stay
        raise
    shutil.rmtree(directory)


def place_on(stack: Stack, prefix: str = "") -> Deployment:
    """Return the place that a running stack of our own is, its topics created."""
    logs = stack.data_dir / "logs"
    pids = {"kafka": stack.kafka.pid, "redis": stack.redis.pid}
    return _place(stack.bootstrap, stack.redis_url, prefix, stack.partitions, logs, pids)


def _place(
    bootstrap: str,
    redis: str,
    prefix: str,
    partitions: int,
    log_dir: Path,
    pids: Mapping[str, int],
) -> Deployment:
    env = {
        "FRAUD_BOOTSTRAP": bootstrap,
        "FRAUD_REDIS_URL": redis,
        "FRAUD_PARTITIONS": str(partitions),
        "FRAUD_TOPIC_PREFIX": prefix,
    }
    settings = load_settings(
        bootstrap=bootstrap, redis_url=redis, partitions=partitions, topic_prefix=prefix
    )
    create_topics(settings)
    return Deployment(settings, env, log_dir, pids)


def emptied(directory: Path) -> Path:
    """Return a directory of ours, emptied.

    Raises:
        ConfigurationError: a stack runs in it, or something else than a run's data is there.
    """
    if directory.is_dir() and running(directory / "stack") is not None:
        raise ConfigurationError(f"a run is under way in {directory}: end it, or give --data")
    if directory.exists():
        held = {path.name for path in directory.iterdir()} if directory.is_dir() else {"a file"}
        if held and not (directory / "stack" / "lock").exists():
            raise ConfigurationError(
                f"--data {directory} holds {', '.join(sorted(held)[:3])} and no stack of ours: "
                "it would be emptied; name another folder"
            )
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    return directory


class Processes:
    """Context manager: processes of ours by name, started when asked, gone when left."""

    def __init__(self) -> None:
        self._services: dict[str, Service] = {}
        self._started = False

    def start(self) -> None:
        """Start all and return at once."""
        self._started = True
        for service in self._services.values():
            service.start()

    def wait_ready(self) -> None:
        """Block until all serve; raises as Service.wait_ready."""
        for service in self._services.values():
            service.wait_ready(READY_S)

    def pids(self) -> dict[str, int]:
        """Return the process ids by name."""
        return {name: service.pid for name, service in self._services.items()}

    def ports(self) -> dict[str, int]:
        """Return the health ports by name."""
        return {name: service.health_port for name, service in self._services.items()}

    def dead(self) -> list[str]:
        """Return the names of those that were started and ended."""
        if not self._started:
            return []
        return [name for name, service in self._services.items() if not service.running]

    def stop(self) -> None:
        """Stop all, the scorers first; harmless when stopped."""
        self._started = False
        for service in reversed(self._services.values()):
            service.stop()

    def __enter__(self) -> Self:
        """Start nothing yet: the caller chooses when."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all."""
        self.stop()


class Services(Processes):
    """Stream processors and scorers."""

    def __init__(self, place: Deployment, *, workers: int = 1, scorers: int = 1) -> None:
        super().__init__()
        self._log_dir = place.log_dir
        for package, kind, count in (
            ("stream_features", "stream", workers),
            ("scorer", "scorer", scorers),
        ):
            for number in range(1, count + 1):
                name = f"{kind}-{number}"
                self._services[name] = Service(
                    name,
                    ["-m", package, "run"],
                    env={**place.env, "FRAUD_WORKER_ID": name},
                    log_dir=place.log_dir,
                )

    def await_model(self, model_id: str) -> None:
        """Block until a scorer decides by a model; raises FatalError if none takes it in time."""
        deadline = time.monotonic() + LOADED_S
        while model_id not in label_values(
            read_metrics(self.ports()), "scorer", "fraud_model_info", "model_id"
        ):
            if time.monotonic() > deadline:
                raise FatalError(
                    f"no scorer took the model {model_id} within {LOADED_S:.0f} s: its log "
                    f"in {self._log_dir} says why; remove a bundle that is out of date"
                )
            time.sleep(0.1)
