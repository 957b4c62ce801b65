"""One suite, two stores: in memory and on a real Redis."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devstack.stack import Stack
from runtime.feature_store.memory import MemoryFeatureStore
from runtime.feature_store.protocol import NO_CURSOR, Commit, FeatureStore, Fold, PartitionAdvance
from runtime.feature_store.redis import RedisFeatureStore
from schemas.errors import ConfigurationError, StoreUnavailable
from tests.support.runtime.commits import HEADER, TOPIC, advance, everything
from tests.support.waiting import until


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest, prefix: bytes) -> Iterator[FeatureStore]:
    if request.param == "memory":
        yield MemoryFeatureStore(prefix=prefix)
    else:
        stack: Stack = request.getfixturevalue("stack")
        real = RedisFeatureStore(stack.redis_url, prefix)
        yield real
        real.close()


@pytest.fixture
def real(stack: Stack, prefix: bytes) -> Iterator[RedisFeatureStore]:
    made = RedisFeatureStore(stack.redis_url, prefix)
    yield made
    made.close()


def test_a_fresh_partition_has_no_cursor_and_no_outbox(store: FeatureStore) -> None:
    assert store.acquire(3) == (1, {}, b"")
    assert store.acquire(3).epoch == 2
    assert store.positions([3, 4]) == {3: {}, 4: {}}


def test_a_commit_writes_all_of_it(store: FeatureStore, prefix: bytes) -> None:
    epoch = store.acquire(0).epoch
    assert store.commit(everything(prefix, epoch, NO_CURSOR)) == (True, "")
    keys = [prefix + name for name in (b"card", b"merchant", b"device", b"nothing")]
    assert store.load(keys) == [b"a blob", HEADER + b"r" * 14, b"\1\0\0\0folded", None]
    assert store.positions([0]) == {0: {TOPIC: 100}}
    assert store.acquire(0) == (epoch + 1, {TOPIC: 100}, b"vectors")


def test_topics_and_partitions_have_cursors_of_their_own(store: FeatureStore) -> None:
    epochs = {0: store.acquire(0).epoch, 1: store.acquire(1).epoch}
    moves = [
        PartitionAdvance(TOPIC, 0, NO_CURSOR, 10),
        PartitionAdvance(TOPIC, 1, NO_CURSOR, 20),
        PartitionAdvance("labels", 1, NO_CURSOR, 30),
    ]
    assert store.commit(Commit(epochs=epochs, advances=moves)).accepted
    assert store.positions([0, 1]) == {0: {TOPIC: 10}, 1: {TOPIC: 20, "labels": 30}}


def test_the_outbox_of_a_partition_that_is_not_named_stays(store: FeatureStore) -> None:
    epoch = store.acquire(0).epoch
    store.commit(Commit(epochs={0: epoch}, outbox={0: b"kept"}))
    store.commit(Commit(epochs={0: epoch}, advances=advance(NO_CURSOR, 1)))
    assert store.acquire(0).outbox == b"kept"
    store.commit(Commit(epochs={0: epoch + 1}, outbox={0: b""}))
    assert store.acquire(0).outbox == b""


def rejections(epoch: int) -> dict[str, dict[str, Any]]:
    return {
        "old epoch": {"epochs": {0: epoch - 1}},
        "epoch of another partition is old": {"epochs": {0: epoch, 1: 7}},
        "stale cursor": {"advances": advance(49, 60)},
        "no cursor expected": {"advances": advance(NO_CURSOR, 60)},
        "second advance is stale": {"advances": advance(50, 60) + advance(5, 6, partition=2)},
    }


@pytest.mark.parametrize("case", rejections(0))
def test_a_rejected_commit_has_written_nothing(
    store: FeatureStore, prefix: bytes, case: str
) -> None:
    first = store.acquire(0).epoch
    keys = [prefix + name for name in (b"card", b"merchant", b"device")]
    store.commit(Commit(epochs={0: first}, advances=advance(NO_CURSOR, 50), outbox={0: b"last"}))
    epoch = store.acquire(0).epoch
    whole = everything(prefix, epoch, 50)
    changed: dict[str, Any] = {
        "epochs": whole.epochs,
        "advances": whole.advances,
        **rejections(epoch)[case],
    }
    result = store.commit(
        Commit(
            epochs=changed["epochs"],
            advances=changed["advances"],
            cards=whole.cards,
            appends=whole.appends,
            folds=whole.folds,
            outbox=whole.outbox,
            header=whole.header,
        )
    )
    assert not result.accepted
    assert "p:" in result.reason
    assert store.load(keys) == [None, None, None]
    assert store.positions([0]) == {0: {TOPIC: 50}}
    assert store.acquire(0).outbox == b"last"


def test_the_worker_that_lost_a_partition_is_fenced(store: FeatureStore, prefix: bytes) -> None:
    old = store.acquire(0)
    new = store.acquire(0)
    assert not store.commit(everything(prefix, old.epoch, NO_CURSOR)).accepted
    assert store.commit(everything(prefix, new.epoch, NO_CURSOR)).accepted


def test_the_same_batch_is_not_applied_twice(store: FeatureStore, prefix: bytes) -> None:
    epoch = store.acquire(0).epoch
    assert store.commit(everything(prefix, epoch, NO_CURSOR)).accepted
    assert not store.commit(everything(prefix, epoch, NO_CURSOR)).accepted
    assert store.load([prefix + b"merchant"]) == [HEADER + b"r" * 14]


@pytest.mark.parametrize("interference", ["append", "fold", "none"])
def test_a_fold_gives_way_to_what_came_in_between(
    store: FeatureStore, prefix: bytes, interference: str
) -> None:
    epoch, key = store.acquire(0).epoch, prefix + b"merchant"
    store.commit(Commit(epochs={0: epoch}, appends=[(key, b"a" * 14)], header=HEADER))
    seen = len(HEADER) + 14
    folded = b"\1\0\0\0" + b"f" * (seen - 4)  # as long as before: only the generation tells
    if interference == "append":
        store.commit(Commit(epochs={0: epoch}, appends=[(key, b"b" * 14)], header=HEADER))
    elif interference == "fold":
        between = [Fold(key, 0, seen, folded, b"c" * 14)]
        store.commit(Commit(epochs={0: epoch}, folds=between, header=HEADER))
    [before] = store.load([key])
    assert before is not None
    mine = Fold(key, 0, seen, b"\1\0\0\0mine", b"d" * 14)
    assert store.commit(Commit(epochs={0: epoch}, folds=[mine], header=HEADER)).accepted
    expected = mine.value if interference == "none" else before + mine.records
    assert store.load([key]) == [expected]


def test_a_fold_of_what_has_gone_meanwhile_leaves_its_records(
    store: FeatureStore, prefix: bytes
) -> None:
    epoch, key = store.acquire(0).epoch, prefix + b"merchant"
    fold = Fold(key, 3, 500, b"\4\0\0\0folded", b"d" * 14)
    store.commit(Commit(epochs={0: epoch}, folds=[fold], header=HEADER))
    assert store.load([key]) == [HEADER + b"d" * 14]


batches = st.lists(
    st.lists(
        st.tuples(st.sampled_from([b"m1", b"m2", b"d1"]), st.binary(min_size=14, max_size=14))
    ),
    max_size=6,
)


@given(one=batches, two=batches, turns=st.randoms(use_true_random=False))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_appends_of_two_workers_commute(
    store: FeatureStore, one: list[Any], two: list[Any], turns: Any
) -> None:
    """Whatever the interleaving, each entity has one header and every record once."""
    prefix = uuid.uuid4().bytes
    epochs = [store.acquire(0).epoch, store.acquire(1).epoch]
    left = [(0, batch) for batch in one] + [(1, batch) for batch in two]
    turns.shuffle(left)
    expected: dict[bytes, list[bytes]] = {}
    for partition, batch in left:
        appends = [(prefix + name, record) for name, record in batch]
        assert store.commit(
            Commit(epochs={partition: epochs[partition]}, appends=appends, header=HEADER)
        ).accepted
        for key, record in appends:
            expected.setdefault(key, []).append(record)
    for key, records in expected.items():
        [value] = store.load([key])
        assert value is not None
        assert value[: len(HEADER)] == HEADER
        body = value[len(HEADER) :]
        assert sorted(body[at : at + 14] for at in range(0, len(body), 14)) == sorted(records)


def test_entities_expire_and_bookkeeping_does_not(store: FeatureStore, prefix: bytes) -> None:
    epoch = store.acquire(0).epoch
    whole = everything(prefix, epoch, NO_CURSOR)
    store.commit(
        Commit(
            epochs=whole.epochs,
            advances=whole.advances,
            cards=whole.cards,
            appends=whole.appends,
            folds=whole.folds,
            outbox=whole.outbox,
            ttl_ms=30,
        )
    )
    keys = [prefix + name for name in (b"card", b"merchant", b"device")]
    until(lambda: store.load(keys) == [None, None, None], "they expire")
    assert store.acquire(0) == (epoch + 1, {TOPIC: 100}, b"vectors")


def test_an_append_extends_the_life_of_an_entity(
    real: RedisFeatureStore, client: Any, prefix: bytes
) -> None:
    epoch, key = real.acquire(0).epoch, prefix + b"merchant"
    for ttl_ms in (1_000_000, 9_000_000):
        real.commit(Commit(epochs={0: epoch}, appends=[(key, b"r" * 14)], ttl_ms=ttl_ms))
        assert ttl_ms - 60_000 < client.pttl(key) <= ttl_ms


@pytest.mark.parametrize("fits", [True, False])
def test_a_fold_extends_the_life_of_an_entity_also_when_it_gives_way(
    real: RedisFeatureStore, client: Any, prefix: bytes, fits: bool
) -> None:
    epoch, key = real.acquire(0).epoch, prefix + b"merchant"
    real.commit(
        Commit(epochs={0: epoch}, appends=[(key, b"r" * 14)], header=HEADER, ttl_ms=1_000_000)
    )
    length = len(HEADER) + 14 if fits else 7
    fold = Fold(key, 0, length, b"\1\0\0\0folded", b"d" * 14)
    assert real.commit(Commit(epochs={0: epoch}, folds=[fold], ttl_ms=9_000_000)).accepted
    assert real.load([key]) == [fold.value if fits else HEADER + b"r" * 14 + b"d" * 14]
    assert 9_000_000 - 60_000 < client.pttl(key) <= 9_000_000


@pytest.mark.parametrize("time", [2**63 - 1, -(2**63), 0])
def test_any_event_time_can_be_a_watermark(store: FeatureStore, time: int) -> None:
    """The latest one says that its worker does not lag."""
    store.exchange_watermark("one:0,2", time)
    assert store.exchange_watermark("two:1", 5) == {"one:0,2": time}
    assert store.exchange_watermark("one:0,2", time) == {"two:1": 5}


def test_watermarks_of_the_others_are_told_until_they_expire(store: FeatureStore) -> None:
    assert store.exchange_watermark("one", 1_700_000_000_123) == {}
    assert store.exchange_watermark("two", -5, ttl_ms=40) == {"one": 1_700_000_000_123}
    assert store.exchange_watermark("two", None) == {"one": 1_700_000_000_123}
    store.exchange_watermark("two", 7, ttl_ms=40)
    until(lambda: store.exchange_watermark("three", None) == {"one": 1_700_000_000_123}, "two ages")
    store.exchange_watermark("one", None)
    assert store.exchange_watermark("three", None) == {}


def test_loading_nothing_and_more_than_one_read_takes(store: FeatureStore, prefix: bytes) -> None:
    assert store.load([]) == []
    epoch = store.acquire(0).epoch
    cards = [(prefix + b"c%d" % number, b"%d" % number) for number in range(0, 5000, 2)]
    store.commit(Commit(epochs={0: epoch}, cards=cards))
    loaded = store.load([prefix + b"c%d" % number for number in range(5000)])
    assert loaded == [b"%d" % number if number % 2 == 0 else None for number in range(5000)]


def test_entities_are_told_with_their_memory(store: FeatureStore, prefix: bytes) -> None:
    """By kind, whatever bytes the prefix and the hashes have; nothing else counts."""
    epoch = store.acquire(0).epoch
    cards = [(prefix + b"c" + bytes([number]) * 8, b"v" * 100) for number in range(40, 60)]
    others = [(prefix + b"m" + bytes(8), b"r" * 14), (b"x" + prefix + b"c" + bytes(8), b"v")]
    store.commit(Commit(epochs={0: epoch}, advances=advance(NO_CURSOR, 7), cards=cards + others))
    found = [entry for piece in store.entities("card") for entry in piece]
    assert sorted(key for key, _ in found) == sorted(key for key, _ in cards)
    assert all(100 + len(key) <= size < 300 for key, size in found)


def test_a_batch_beyond_luas_stack_is_one_call(
    real: RedisFeatureStore, client: Any, prefix: bytes
) -> None:
    epoch = real.acquire(0).epoch
    cards = [(prefix + b"c%d" % number, b"blob") for number in range(5_000)]
    appends = [(prefix + b"m%d" % number, b"r" * 14) for number in range(15_000)]
    before = client.info("commandstats").get("cmdstat_fcall", {"calls": 0})["calls"]
    assert real.commit(Commit(epochs={0: epoch}, cards=cards, appends=appends)).accepted
    assert client.info("commandstats")["cmdstat_fcall"]["calls"] == before + 1
    assert real.load([appends[-1][0], cards[-1][0]]) == [b"r" * 14, b"blob"]


def test_functions_come_back_after_the_server_lost_them(
    real: RedisFeatureStore, client: Any
) -> None:
    real.acquire(0)
    client.function_flush()
    assert real.acquire(0).epoch == 2


def test_the_store_in_memory_can_be_away(prefix: bytes) -> None:
    store = MemoryFeatureStore()
    store.available = False
    with pytest.raises(StoreUnavailable):
        store.load([prefix])


def test_state_of_another_format_is_refused(store: FeatureStore) -> None:
    store.claim_format(2)
    store.claim_format(2)
    with pytest.raises(ConfigurationError, match=r"format 2.*format 3"):
        store.claim_format(3)
