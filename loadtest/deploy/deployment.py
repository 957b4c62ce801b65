"""The Kafka and Redis of a run, its own or running ones, and our services on them."""

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
    """A Kafka and a Redis in use.

    `env` points services at them; `pids` has their process ids if the run started them.
    """

    settings: Settings
    env: Mapping[str, str]
    log_dir: Path
    pids: Mapping[str, int] = field(default_factory=dict)

    def with_prefix(self, prefix: str) -> Deployment:
        """Return the same deployment with another prefix of topic and key names."""
        settings = self.settings.model_copy(update={"topic_prefix": prefix})
        env = {**self.env, "FRAUD_TOPIC_PREFIX": prefix}
        return Deployment(settings, env, self.log_dir, self.pids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The Kafka and Redis to run on; without `bootstrap` and `redis` the run starts its own."""

    bootstrap: str | None = None
    redis: str | None = None
    prefix: str | None = None
    partitions: int = 4
    data: Path = Path("var/loadtest")


@contextmanager
def deploy(target: Target) -> Iterator[Deployment]:
    """Yield the deployment with its topics created.

    A stack that the run started is stopped at the end, and its data are removed; after an error
    its logs stay.

    Raises:
        ConfigurationError: only one of the two addresses was given, or see `Stack.start`.
    """
    if (target.bootstrap is None) != (target.redis is None):
        raise ConfigurationError(
            "give both --bootstrap and --redis, or neither to start a Kafka and a Redis"
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
    """Return a deployment on a stack that we started, with its topics created."""
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


def empty_directory(directory: Path) -> Path:
    """Empty the data directory of an earlier run, create it if it is missing, and return it.

    Raises:
        ConfigurationError: a run is under way in it, or it holds anything but a run's data.
    """
    if directory.is_dir() and running(directory / "stack") is not None:
        raise ConfigurationError(
            f"a run is under way in {directory}: end it, or name another directory with --data"
        )
    if directory.exists():
        held = {path.name for path in directory.iterdir()} if directory.is_dir() else {"a file"}
        if held and not (directory / "stack" / "lock").exists():
            raise ConfigurationError(
                f"--data {directory} would be emptied, but it holds {', '.join(sorted(held)[:3])}, "
                "which are not an earlier run's data: name another directory"
            )
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    return directory


class Processes:
    """Our processes by name, as a context manager that stops them on exit.

    Entering starts nothing; call `start`.
    """

    def __init__(self) -> None:
        self._services: dict[str, Service] = {}
        self._started = False

    def start(self) -> None:
        """Start all processes and return at once."""
        self._started = True
        for service in self._services.values():
            service.start()

    def wait_ready(self) -> None:
        """Block until all are ready; raises what `Service.wait_ready` raises."""
        for service in self._services.values():
            service.wait_ready(READY_S)

    def pids(self) -> dict[str, int]:
        """Return the process ids by name."""
        return {name: service.pid for name, service in self._services.items()}

    def ports(self) -> dict[str, int]:
        """Return the health ports by name."""
        return {name: service.health_port for name, service in self._services.items()}

    def dead(self) -> list[str]:
        """Return the names of processes that were started and have ended."""
        if not self._started:
            return []
        return [name for name, service in self._services.items() if not service.running]

    def stop(self) -> None:
        """Stop all in the reverse order of their start; does nothing if they are stopped."""
        self._started = False
        for service in reversed(self._services.values()):
            service.stop()

    def __enter__(self) -> Self:
        """Return itself; the caller chooses when to start."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all processes."""
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
        """Block until a scorer has loaded a model.

        Raises:
            FatalError: no scorer loaded it within a minute.
        """
        deadline = time.monotonic() + LOADED_S
        while model_id not in label_values(
            read_metrics(self.ports()), "scorer", "fraud_model_info", "model_id"
        ):
            if time.monotonic() > deadline:
                raise FatalError(
                    f"no scorer loaded the model {model_id} within {LOADED_S:.0f} s: the scorer's "
                    f"log in {self._log_dir} says why; remove the bundle if it is out of date"
                )
            time.sleep(0.1)
