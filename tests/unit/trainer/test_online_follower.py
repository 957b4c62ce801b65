"""What the online learner takes from the topics: labels reach the transaction of their card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from runtime.clock import ManualClock
from runtime.kafka.memory import MemoryBroker, MemoryReader
from runtime.metrics import Metrics
from schemas.codec import avro
from schemas.features import DAY, VECTOR_SIZE
from schemas.topics import FEATURES, LABELS
from tests.support.monitor.traffic import START, vector_message
from tests.support.scorer.stand_ins import small_model
from trainer.online.follower import OnlineFollower
from trainer.online.learning import Online, OnlineOptions
from trainer.online.pending import FRAUD, WAITING


def test_ids_that_are_unique_on_their_card_only_are_told_apart(tmp_path: Path) -> None:
    broker = MemoryBroker(1)
    values = np.random.default_rng(1).gamma(2.0, 10.0, (60, VECTOR_SIZE)).astype(np.float32)
    for number in range(60):  # each terminal counts from 1
        names = {"transaction_id": f"{number % 20 + 1:06d}", "card_id": f"c{number // 20}"}
        _, record = avro.decode(vector_message(number, values[number], START))
        vector = record | {"transaction": record["transaction"] | names}
        broker.append(FEATURES.name, (0, None, avro.encode("FeatureVector", vector)))
    for number, kind in enumerate(("REFUND", "REVERSAL")):  # which nothing is learnt from
        _, record = avro.decode(vector_message(60 + number, values[0], START))
        vector = record | {"transaction": record["transaction"] | {"kind": kind}}
        broker.append(FEATURES.name, (0, None, avro.encode("FeatureVector", vector)))
    label = {
        "transaction_id": "000001", "card_id": "c1", "label": "FRAUD", "source": "CHARGEBACK",
        "transaction_time": START, "label_time": START,
    }  # fmt: skip
    broker.append(LABELS.name, (0, None, avro.encode("Label", label)))
    online = Online(OnlineOptions(records=100, label_delay_ms=DAY))
    online.follow(small_model(tmp_path / "champion", "champion"))
    nowhere: Any = None
    follower = OnlineFollower(
        online,
        {topic.name: MemoryReader(broker, topic.name) for topic in (FEATURES, LABELS)},
        nowhere,
        clock=ManualClock(START),
        metrics=Metrics("online"),
    )
    while follower.step(timeout_s=0.0):
        pass
    assert online.counts.transactions == 60
    assert np.flatnonzero(online.pending.state == FRAUD).tolist() == [20]
    assert (online.pending.state[:60] == WAITING).sum() == 59
