"""From records to state changes and messages: what is refused, where everything goes."""

from __future__ import annotations

from typing import Any

import numpy as np

from runtime.clock import ManualClock
from runtime.feature_store.memory import MemoryFeatureStore
from runtime.feature_store.protocol import Commit
from runtime.metrics import Metrics
from runtime.settings import load_settings
from schemas.codec import avro as codec
from schemas.dead_letters import dead_letter
from schemas.topics import MAX_MESSAGE_BYTES
from stream_features.engine.offline import OfflineEngine
from stream_features.engine.state.blob import NEW_SHARED
from stream_features.worker.assembly import build_computation
from stream_features.worker.computation import Computed, EngineComputation
from stream_features.worker.stages import StageTimers
from tests.support.reference.drive import columns_of
from tests.support.stream_features.stand_ins import NOW, Record

PAN = b"4111111111111111"


def computation(store: MemoryFeatureStore) -> EngineComputation:
    metrics = Metrics("test")
    settings = load_settings(topic_prefix="p.")
    return build_computation(settings, store, metrics, StageTimers(metrics), ManualClock(NOW))


def event(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "transaction_id": str(number),
        "event_time": NOW - 10**9 + number * 1000,
        "card_id": f"card-{number % 3}",
        "merchant_id": "m",
        "amount": 100 * number,
        "currency": "EUR",
        **fields,
    }


def record(partition: int, offset: int, value: bytes) -> Record:
    return Record("p.transactions", partition, offset, value, key=b"key")


def avro(number: int, **fields: Any) -> bytes:
    return codec.encode("Transaction", event(number, **fields))


def write(store: MemoryFeatureStore, computed: Computed) -> None:
    epoch = store.acquire(0).epoch
    store.commit(
        Commit(
            epochs={0: epoch},
            cards=computed.cards,
            appends=computed.appends,
            folds=computed.folds,
            header=NEW_SHARED,
        )
    )


def test_refused_rows_keep_their_places_and_good_ones_their_vectors() -> None:
    subject = computation(MemoryFeatureStore())
    batch = subject.decode(
        {
            2: [record(2, 10, avro(1)), record(2, 11, b"rubbish"), record(2, 12, avro(2))],
            0: [record(0, 5, avro(3, amount=-1)), record(0, 6, avro(4))],
        }
    )
    assert len(batch) == 5
    assert list(zip(batch.partition.tolist(), batch.offset.tolist(), strict=True)) == [
        (2, 10), (2, 11), (2, 12), (0, 5), (0, 6),
    ]  # fmt: skip
    assert set(batch.dead) == {(2, 11), (0, 5)}
    computed = subject.transactions(batch)
    expected, _ = OfflineEngine().process(columns_of([event(n) for n in (1, 2, 4)]))
    vectors = [
        codec.decode(value)[1] for number in (2, 0) for value in computed.messages[number].vectors
    ]
    assert [(v["source_partition"], v["source_offset"]) for v in vectors] == [
        (2, 10), (2, 12), (0, 6),
    ]  # fmt: skip
    for vector, row in zip(vectors, expected, strict=True):
        assert vector["vector"] == row.astype("<f4").tobytes()
        assert vector["received_at"] == NOW
    assert computed.messages[2].keys == [b"card-1", b"card-2"]
    letter = codec.decode(computed.messages[0].dead_letters[0])[1]
    assert (letter["topic"], letter["partition"], letter["offset"]) == ("p.transactions", 0, 5)
    assert (letter["field"], letter["error_class"]) == ("amount", "InvalidField")


def test_a_batch_of_refused_records_only() -> None:
    subject = computation(MemoryFeatureStore())
    computed = subject.transactions(subject.decode({1: [record(1, 0, b"")]}))
    assert not computed.cards
    assert len(computed.messages[1].dead_letters) == 1


def test_cut_and_take_keep_dead_letters_with_their_rows() -> None:
    subject = computation(MemoryFeatureStore())
    batch = subject.decode({0: [record(0, 0, b"?"), record(0, 1, avro(1)), record(0, 2, b"!")]})
    assert set(batch.cut(0, 2).dead) == {(0, 0)}
    assert set(batch.take(np.array([2, 1])).dead) == {(0, 2)}
    assert set(batch.cut(0, 1).join(batch.cut(1, 3)).dead) == {(0, 0), (0, 2)}


def test_labels_reach_the_merchant_and_bad_ones_are_refused() -> None:
    store = MemoryFeatureStore()
    subject = computation(store)
    write(store, subject.transactions(subject.decode({0: [record(0, 0, avro(1))]})))
    label = {
        "transaction_id": "1",
        "card_id": "card-1",
        "label": "FRAUD",
        "transaction_time": event(1)["event_time"],
        "label_time": NOW,
    }
    computed = subject.labels(
        [
            Record("p.labels", 0, 7, codec.encode("Label", label)),
            Record("p.labels", 3, 9, b'{"label": "MAYBE"}'),
        ]
    )
    assert len(computed.cards) == 1
    assert len(computed.appends) == 1
    assert set(computed.messages) == {3}
    letter = codec.decode(computed.messages[3].dead_letters[0])[1]
    assert (letter["topic"], letter["offset"], letter["field"]) == ("p.labels", 9, "label")


def test_card_numbers_in_a_dead_letter_are_masked() -> None:
    error = ValueError(f"cannot serve {PAN.decode()}")
    key, message = dead_letter("t", 0, 1, PAN, b'{"pan": "' + PAN + b'"}', error, NOW)
    assert key == b"************1111"
    assert PAN not in message
    assert codec.decode(message)[1]["error_class"] == "ValueError"


def test_a_dead_letter_always_fits() -> None:
    size = MAX_MESSAGE_BYTES + 10
    _, message = dead_letter("t", 0, 1, b"k" * size, b"v" * size, ValueError("r" * size), NOW)
    assert len(message) < MAX_MESSAGE_BYTES - 10_000


def test_context_that_cannot_be_read_is_counted_by_field_and_named_in_the_vector() -> None:
    store = MemoryFeatureStore()
    worked = computation(store)
    values = [avro(1), avro(2, ip="somewhere", mcc=-1), avro(3, ip="there"), avro(4, unread=["ip"])]
    records = [record(0, place, value) for place, value in enumerate(values)]
    made = worked.transactions(worked.decode({0: records}))
    named = [
        codec.decode(vector)[1]["transaction"]["unread"] for vector in made.messages[0].vectors
    ]
    assert named == [[], ["mcc", "ip"], ["ip"], ["ip"]]
    text = worked._metrics.exposition().decode()
    for field, count in (("ip", 3.0), ("mcc", 1.0)):
        assert f'fraud_unread_fields_total{{field="{field}",service="test"}} {count}' in text
