"""What is not a number where a position must be, and values of other types: errors name the key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from devstack.stack import Stack
from runtime.feature_store.protocol import NO_CURSOR, Commit, Fold, PartitionAdvance
from runtime.feature_store.redis import RedisFeatureStore
from schemas.errors import UnreadableValue

HEADER = b"\0" * 18


@pytest.fixture
def store(stack: Stack, prefix: bytes) -> Iterator[RedisFeatureStore]:
    made = RedisFeatureStore(stack.redis_url, prefix)
    yield made
    made.close()


@pytest.fixture
def server(stack: Stack) -> Iterator[Any]:
    client = redis.Redis.from_url(stack.redis_url)
    yield client
    client.close()


def acquire(store: RedisFeatureStore) -> object:
    return store.acquire(0)


def positions(store: RedisFeatureStore) -> object:
    return store.positions([0])


def claim(store: RedisFeatureStore) -> None:
    store.claim_format(2)


@pytest.mark.parametrize(
    ("key", "value", "call", "fault"),
    [
        ("p:0:epoch", b"one", acquire, "not of the type"),
        ("p:0:epoch", b"9223372036854775807", acquire, "not of the type"),
        ("p:0:epoch", {b"a": b"1"}, acquire, "not of the type"),
        ("p:0:cursors", b"12", acquire, "not of the type"),
        ("p:0:cursors", {b"transactions": b"1e5"}, acquire, "position in transactions, '1e5'"),
        ("p:0:cursors", {b"transactions": b"-7"}, acquire, "position in transactions, '-7'"),
        ("p:0:cursors", {b"labels": b"9" * 30}, acquire, "is not a number from 0 on"),
        ("p:0:cursors", {b"\xff": b"\xff\0"}, positions, r"position in \\xff, '\\xff"),
        ("p:0:outbox", {b"a": b"1"}, acquire, "not of the type"),
        ("format", b"two", claim, "'two', is not a number"),
    ],
    ids=lambda given: given.__name__ if callable(given) else str(given)[:40],
)
def test_an_unreadable_value_is_named_with_its_remedy(
    store: RedisFeatureStore,
    server: Any,
    prefix: bytes,
    key: str,
    value: bytes | dict[bytes, bytes],
    call: Callable[[RedisFeatureStore], object],
    fault: str,
) -> None:
    if isinstance(value, bytes):
        server.set(prefix + key.encode(), value)
    else:
        server.hset(prefix + key.encode(), mapping=value)
    for _ in range(2):
        with pytest.raises(UnreadableValue, match=fault) as raised:
            call(store)
        assert prefix.decode() + key in str(raised.value)
        assert "stream_features rebuild" in str(raised.value)


def test_watermarks_that_no_worker_wrote_are_removed(
    store: RedisFeatureStore, server: Any, prefix: bytes
) -> None:
    store.exchange_watermark("one", 5)
    strange = {
        b"a": b"",
        b"b": b"5",
        b"c": b"x:99",
        b"d": b"1:2:3",
        b"e": b"9" * 30 + b":9",
        b"\xff": b":1",
    }
    server.hset(prefix + b"watermarks", mapping=strange)
    server.hset(prefix + b"watermarks", b"strange", b"9999999999999999999:" + b"9" * 13)
    assert store.exchange_watermark("two", 6) == {"one": 5, "strange": 2**63 - 1}
    server.hdel(prefix + b"watermarks", b"strange")
    assert set(server.hkeys(prefix + b"watermarks")) == {b"one", b"two"}


def test_entities_of_another_type_are_replaced_and_the_commit_is_whole(
    store: RedisFeatureStore, server: Any, prefix: bytes
) -> None:
    keys = {name: prefix + name for name in (b"card", b"merchant", b"device")}
    for key in keys.values():
        server.hset(key, "field", "value")
    assert store.load(list(keys.values())) == [None, None, None]
    commit = Commit(
        epochs={0: store.acquire(0).epoch},
        advances=[PartitionAdvance("transactions", 0, NO_CURSOR, 5)],
        cards=[(keys[b"card"], b"blob")],
        appends=[(keys[b"merchant"], b"record")],
        folds=[Fold(keys[b"device"], 0, 0, b"folded", b"record")],
        header=HEADER,
    )
    assert store.commit(commit).accepted
    assert store.load(list(keys.values())) == [b"blob", HEADER + b"record", b"folded"]
    assert store.positions([0]) == {0: {"transactions": 5}}
