"""What the tests of the feature store commit."""

from __future__ import annotations

from runtime.feature_store.protocol import Commit, Fold, PartitionAdvance

HEADER = b"\0\0\0\0headheadhead"
TOPIC = "transactions"


def advance(expected: int, following: int, partition: int = 0) -> list[PartitionAdvance]:
    return [PartitionAdvance(TOPIC, partition, expected, following)]


def everything(prefix: bytes, epoch: int, expected: int) -> Commit:
    """Return a commit that writes to every kind of place."""
    return Commit(
        epochs={0: epoch},
        advances=advance(expected, 100),
        cards=[(prefix + b"card", b"a blob")],
        appends=[(prefix + b"merchant", b"r" * 14)],
        folds=[Fold(prefix + b"device", 0, 0, b"\1\0\0\0folded", b"q" * 14)],
        outbox={0: b"vectors"},
        header=HEADER,
    )
