"""Real servers that would not keep what the feature store promises, and users without a right."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import structlog

from devstack.servers.redis import RedisServer
from devstack.stack import Stack
from runtime.feature_store import redis as subject
from runtime.feature_store.protocol import NO_CURSOR, Commit
from runtime.feature_store.redis import RedisFeatureStore
from runtime.feature_store.redis_server import RIGHTS, ServerWatch
from runtime.metrics import Metrics, read_exposition
from schemas.errors import ConfigurationError
from tests.support.runtime.commits import TOPIC, advance, everything

OPERATING = (Path(__file__).parents[3] / "docs/operating.md").read_text()
ALL_RIGHTS = ["+@connection", "+fcall", "+function|load", "+info", *RIGHTS]


def rights_of(process: str) -> list[str]:
    """Return the documented rights of a process."""
    [row] = re.findall(rf"^\| {process}.* \| `(.*)` \|$", OPERATING, re.MULTILINE)
    return str(row).replace("\\|", "|").split()


class ClusterServer(RedisServer):
    """A Redis Cluster of one server, which has every slot."""

    def _command(self) -> list[str]:
        return [*super()._command(), "--cluster-enabled", "yes"]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RedisServer]:
    """A server whose settings the test may change."""
    with RedisServer(tmp_path / "data", tmp_path) as server:
        yield server


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisServer]:
    with ClusterServer(tmp_path / "data", tmp_path) as server:
        with redis.Redis.from_url(server.url) as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        yield server


class User:
    """An ACL user of the common server with some rights, and the store that it opens."""

    def __init__(self, stack: Stack, client: Any, prefix: bytes) -> None:
        self.name = prefix.decode()
        self._stack, self._client, self._prefix = stack, client, prefix

    def may(self, rights: list[str], keys: str = "") -> RedisFeatureStore:
        self._client.execute_command(
            "ACL", "SETUSER", self.name, "reset", "on", ">secret", f"~{keys or self.name}*",
            "resetchannels", *rights,
        )  # fmt: skip
        return RedisFeatureStore(
            self._stack.redis_url, self._prefix, username=self.name, password="secret"
        )


@pytest.fixture
def user(stack: Stack, client: Any, prefix: bytes) -> Iterator[User]:
    made = User(stack, client, prefix)
    yield made
    client.execute_command("ACL", "DELUSER", made.name)


def values(metrics: Metrics) -> dict[str, float]:
    return {
        name: value
        for name, _, value in read_exposition(metrics.exposition().decode())
        if name.startswith("fraud_redis")
    }


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru", "volatile-ttl"])
def test_a_server_that_evicts_is_refused_with_the_remedy(own: RedisServer, policy: str) -> None:
    store = RedisFeatureStore(own.url)
    ServerWatch(store, Metrics("test")).check()
    with redis.Redis.from_url(own.url) as other:
        other.config_set("maxmemory-policy", policy)
    with pytest.raises(
        ConfigurationError, match=f"maxmemory-policy {policy}.*set maxmemory-policy noeviction"
    ):
        ServerWatch(store, Metrics("test")).check()
    store.close()


def test_eviction_and_want_of_memory_are_noticed_while_it_runs(own: RedisServer) -> None:
    store, metrics = RedisFeatureStore(own.url), Metrics("test")
    watch = ServerWatch(store, metrics)
    watch.check()
    assert watch.look() == ""
    before = values(metrics)
    assert 0 < before["fraud_redis_memory_ratio"] < 0.9
    epoch = store.acquire(0).epoch
    cards = [(uuid.uuid4().bytes, bytes(10_000)) for _ in range(200)]
    assert store.commit(Commit(epochs={0: epoch}, cards=cards)).accepted
    with redis.Redis.from_url(own.url) as other:
        limit = other.info("memory")["used_memory"] - 500_000
        other.config_set("maxmemory-policy", "allkeys-random")
        other.config_set("maxmemory", limit)
        other.set("one", "more")  # a write makes room first
        evicted = other.info("stats")["evicted_keys"]
    assert evicted > 0
    with structlog.testing.capture_logs() as lines:
        assert re.search("maxmemory-policy allkeys-random.*noeviction", watch.look())
        watch.look()
    after = values(metrics)
    assert after["fraud_redis_evicted_total"] == evicted
    assert after["fraud_redis_memory_ratio"] > 0.9
    assert [line["event"] for line in lines] == [
        "Redis has evicted keys: state is lost", "Redis does not keep its state",
    ]  # fmt: skip
    store.close()


def test_a_cluster_is_named_by_the_check_and_by_every_call(cluster: RedisServer) -> None:
    store = RedisFeatureStore(cluster.url)
    for call in (
        ServerWatch(store, Metrics("test")).check,
        lambda: store.load([b"one", b"another", b"third"]),
        lambda: store.acquire(0),
    ):
        with pytest.raises(ConfigurationError, match="is a Redis Cluster, which is not supported"):
            call()
    store.close()


def test_a_server_without_an_append_only_file_is_taken_with_a_warning(own: RedisServer) -> None:
    store = RedisFeatureStore(own.url)
    with redis.Redis.from_url(own.url) as other:
        other.config_set("appendonly", "no")
    with structlog.testing.capture_logs() as lines:
        ServerWatch(store, Metrics("test")).check()
    assert any("append-only" in line["event"] for line in lines)
    store.close()


def test_the_documented_rights_suffice(user: User, prefix: bytes) -> None:
    assert sorted(rights_of("stream processor")) == sorted(ALL_RIGHTS)
    store = user.may(rights_of("stream processor"))
    watch = ServerWatch(store, Metrics("test"))
    watch.check()
    assert watch.look() == ""
    store.claim_format(1)
    epoch = store.acquire(0).epoch
    assert store.commit(everything(prefix, epoch, NO_CURSOR)).accepted
    assert store.commit(everything(prefix, epoch, 100)).accepted
    assert store.positions([0])[0] == {TOPIC: 100}
    store.exchange_watermark("one", 1)
    store.exchange_watermark("one", None)
    store.commit(Commit(epochs={0: epoch}, outbox={0: b""}))
    store.ping()
    store.close()
    gateway = user.may(rights_of("gateway"))
    assert gateway.load([prefix + b"card"]) == [b"a blob"]
    assert gateway.time_to_live(prefix + b"card") > 0
    gateway.close()
    size = user.may(rights_of("`size`"))
    assert list(size.entities("card")) is not None
    assert size.load([prefix + b"card"]) == [b"a blob"]
    size.close()


@pytest.mark.parametrize("right", ["+fcall", "+function|load", *RIGHTS])
def test_a_missing_right_is_named_at_the_start(user: User, client: Any, right: str) -> None:
    if right == "+function|load":
        client.function_flush()
    store = user.may([each for each in ALL_RIGHTS if each != right])
    with pytest.raises(ConfigurationError, match=re.escape(right.removeprefix("+"))):
        ServerWatch(store, Metrics("test")).check()
    store.close()


def test_several_missing_rights_are_named_together(user: User) -> None:
    store = user.may([each for each in ALL_RIGHTS if each not in ("+append", "+hset")])
    with pytest.raises(ConfigurationError, match=r"lacks \+append \+hset: grant that with ACL"):
        ServerWatch(store, Metrics("test")).check()
    store.close()


def test_a_user_of_other_keys_is_refused(user: User) -> None:
    store = user.may(ALL_RIGHTS, keys="another-prefix-")
    with pytest.raises(ConfigurationError, match=r"docs/operating\.md"):
        ServerWatch(store, Metrics("test")).check()
    store.close()


def test_without_info_it_is_said_that_nothing_was_checked_and_work_goes_on(user: User) -> None:
    store = user.may([each for each in ALL_RIGHTS if each != "+info"])
    watch = ServerWatch(store, Metrics("test"))
    with structlog.testing.capture_logs() as lines:
        watch.check()
    assert "grant +info" in lines[0]["reason"]
    assert watch.look() == ""
    store.close()


def test_a_wrong_password_is_named(user: User, stack: Stack, prefix: bytes) -> None:
    user.may(ALL_RIGHTS).close()
    store = RedisFeatureStore(stack.redis_url, prefix, username=user.name, password="guess")
    with pytest.raises(ConfigurationError, match=r"refuses.*FRAUD_REDIS_PASSWORD"):
        store.ping()
    store.close()


def test_two_versions_of_the_library_serve_on_one_server(
    stack: Stack, prefix: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = RedisFeatureStore(stack.redis_url, prefix + b"a")
    other = RedisFeatureStore(stack.redis_url, prefix + b"b")
    epoch = ours.acquire(0).epoch
    text, version = subject._library()
    with monkeypatch.context() as patch:  # another process, of another version
        changed = text.replace("return ''", "return 'another version'").replace(version, "other")
        patch.setattr(subject, "_library", lambda: (changed, "other"))
        theirs = other.acquire(0).epoch
        assert other.commit(Commit(epochs={0: theirs})).reason == "another version"
    assert ours.commit(Commit(epochs={0: epoch}, advances=advance(NO_CURSOR, 1))).accepted
    for store in (ours, other):
        store.close()
