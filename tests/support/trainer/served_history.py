"""Weeks of served transactions that a model can learn from, as messages, for tests of training."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from runtime.kafka.protocols import Outgoing
from schemas.codec import avro
from schemas.features import DAY, FINGERPRINT
from stream_features.offline.replay import replay_table
from tests.support.mapped import mapped
from tests.unit.trainer.test_bootstrap import MAPPING, history

LABEL_DELAY_DAYS = 2
GATES = """alert_rate: {most: 0.5}
latency: {most_us: 1000000}
fairness: {most_difference: 0.5}
"""


def messages(rows: int, partitions: int) -> tuple[list[Outgoing], list[Outgoing]]:
    """Return vectors and the labels of the frauds; the vectors are those of a replay."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "map.yaml")
        path.write_text(MAPPING)
        source = history(rows)
        table = mapped(path, source)
    replay = replay_table(table, label_delay_ms=LABEL_DELAY_DAYS * DAY)
    records = source.to_pylist()
    vectors: list[Outgoing] = []
    labels: list[Outgoing] = []
    for place, row in enumerate(replay.order.tolist()):
        record = records[row]
        at, partition = record["time"], row % partitions
        transaction = {
            "transaction_id": record["id"], "event_time": at, "card_id": record["card"],
            "merchant_id": record["merchant"], "amount": record["amount"], "currency": "EUR",
            "channel": "ECOM", "attributes": {},
        }  # fmt: skip
        vector = {
            "source_partition": partition, "source_offset": row // partitions, "received_at": at,
            "computed_at": at * 1000, "duplicate": False, "late": False,
            "fingerprint": FINGERPRINT, "vector": replay.vectors[place].astype("<f4").tobytes(),
            "transaction": transaction,
        }  # fmt: skip
        key = record["card"].encode()
        vectors.append((partition, key, avro.encode("FeatureVector", vector)))
        if record["fraud"]:
            label = {
                "transaction_id": record["id"], "card_id": record["card"], "label": "FRAUD",
                "source": "CHARGEBACK", "transaction_time": at, "label_time": at + DAY,
            }  # fmt: skip
            labels.append((partition, key, avro.encode("Label", label)))
    return vectors, labels
