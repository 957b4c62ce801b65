"""What the answers of INFO mean, of servers that there are none of here."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from runtime.feature_store.redis_server import ServerState, ServerWatch
from runtime.metrics import Metrics, read_exposition
from schemas.errors import ConfigurationError

GOOD: dict[str, Any] = {
    "redis_version": "7.2.4",
    "redis_mode": "standalone",
    "maxmemory_policy": "noeviction",
    "used_memory": 500,
    "maxmemory": 1000,
    "total_system_memory": 4000,
    "evicted_keys": 0,
    "aof_enabled": 1,
}


class Answers:
    """A store whose server answers INFO with `info`."""

    address = "redis.example:6379"

    def __init__(self, **changed: Any) -> None:
        self.info = GOOD | changed

    def information(self) -> dict[str, Any] | None:
        return self.info

    def lacking(self, commands: Any) -> list[str]:
        return []

    def ping(self) -> None:
        return


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"redis_version": "6.2.14"}, "is version 6.2.14.*7.0 or newer"),
        ({"redis_mode": "cluster"}, "is a Redis Cluster.*cluster-enabled no"),
        ({"redis_mode": "sentinel"}, "is a Sentinel.*the server's address"),
        ({"maxmemory_policy": "volatile-lfu"}, "has maxmemory-policy volatile-lfu"),
    ],
)
def test_a_server_that_breaks_a_promise_is_refused(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^Redis at redis.example:6379 {named}"):
        ServerWatch(Answers(**changed), Metrics("test")).check()


@pytest.mark.parametrize("version", ["7.0.0", "8.2", 9.1, "255.255.255", "unstable"])
def test_a_version_that_has_functions_or_says_nothing_is_taken(version: object) -> None:
    ServerWatch(Answers(redis_version=version), Metrics("test")).check()


def test_a_server_that_leaves_fields_out_is_taken_with_a_warning() -> None:
    store = Answers()
    store.info = {"redis_version": "7.0.0"}
    with structlog.testing.capture_logs() as lines:
        ServerWatch(store, Metrics("test")).check()
    [line] = lines
    assert "maxmemory-policy" in line["event"]
    assert ServerState.of({}).memory_share() == 0.0


def test_memory_is_a_share_of_the_limit_or_else_of_the_machine() -> None:
    assert ServerState.of(GOOD).memory_share() == 0.5
    assert ServerState.of(GOOD | {"maxmemory": 0}).memory_share() == 0.125


def test_keys_evicted_before_the_start_are_told_and_later_ones_counted() -> None:
    store, metrics = Answers(evicted_keys=7), Metrics("test")
    watch = ServerWatch(store, metrics)

    def counted() -> float:
        found = read_exposition(metrics.exposition().decode())
        return sum(value for name, _, value in found if name == "fraud_redis_evicted_total")

    with structlog.testing.capture_logs() as lines:
        watch.check()
    assert lines[0]["keys"] == 7
    for evicted, expected in ((7, 0), (10, 3), (10, 3), (2, 5)):  # 2: the server was restarted
        store.info["evicted_keys"] = evicted
        watch.look()
        assert counted() == expected
