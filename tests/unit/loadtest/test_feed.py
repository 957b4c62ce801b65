"""Order of replay: events by time, labels when they become known, nothing in the future."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loadtest.traffic.feed import FeedSettings, TransactionFeed, open_feed
from schemas.codec import avro
from schemas.errors import ConfigurationError

MAPPING = """
fields:
  transaction_id: id
  event_time: at
  card_id: card
  merchant_id: shop
  amount: cents
  currency: {constant: EUR}
  label: {column: fraud, known: known}
"""


START = 10**12


def clock() -> int:
    return 10**15


@pytest.fixture
def settings(tmp_path: Path) -> FeedSettings:
    table = pa.table(
        {
            "id": ["9", "10", "a", "b", "c"],
            "at": [START + ms for ms in (300, 300, 100, 200, 400)],
            "card": ["x"] * 5,
            "shop": ["s"] * 5,
            "cents": [1, 2, 3, 4, 5],
            "fraud": [False, False, True, True, False],
            "known": [START + ms for ms in (300, 300, 300, 900, 400)],
        }
    )
    pq.write_table(table, tmp_path / "day.parquet")
    (tmp_path / "m.yaml").write_text(MAPPING)
    return FeedSettings(input=tmp_path / "day.parquet", mapping=tmp_path / "m.yaml")


def drained(feed: TransactionFeed, size: int) -> list[tuple[str, str]]:
    """Everything in the order of sending: ("transaction" | "label", transaction_id)."""
    out: list[tuple[str, str]] = []
    while True:
        piece = feed.take(size)
        labels = list(piece.labels)
        for row, value in enumerate(piece.transactions.values):
            while labels and labels[0].before <= row:
                out.append(("label", text(labels.pop(0).value)))
            out.append(("transaction", text(value)))
        out += [("label", text(each.value)) for each in labels]
        if not piece.transactions.values:
            return out


def text(message: bytes) -> str:
    return str(avro.decode(message)[1]["transaction_id"])


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_labels_come_when_they_become_known(settings: FeedSettings, size: int) -> None:
    feed, ahead = open_feed(settings, clock)
    assert ahead == []
    found = drained(feed, size)
    assert [each for kind, each in found if kind == "transaction"] == ["a", "b", "9", "10", "c"]
    assert found.index(("label", "a")) == 2  # known at 300: before the first event of that time
    assert found[-1] == ("label", "b")  # known after the last event: at the end


def test_labels_ahead(settings: FeedSettings) -> None:
    ahead_settings = FeedSettings(input=settings.input, mapping=settings.mapping, labels="ahead")
    feed, ahead = open_feed(ahead_settings, clock)
    assert sorted(text(each.value) for each in ahead) == ["a", "b"]
    assert all(kind == "transaction" for kind, _ in drained(feed, 2))


def test_labels_none(settings: FeedSettings) -> None:
    none = FeedSettings(input=settings.input, mapping=settings.mapping, labels="none")
    feed, ahead = open_feed(none, clock)
    assert ahead == []
    assert all(kind == "transaction" for kind, _ in drained(feed, 2))


def test_the_worlds_stream_never_runs_ahead_of_the_clock() -> None:
    now = 20_148 * 86_400_000 + 3_600_000  # one in the morning of its first day
    feed, _ = open_feed(FeedSettings(customers=300), lambda: now)
    times: Any = feed.take(400).transactions.time
    assert times.max() == now
    assert times.min() < now


def test_the_worlds_stream_cannot_send_labels_ahead() -> None:
    with pytest.raises(ConfigurationError, match="no end"):
        open_feed(FeedSettings(customers=300, labels="ahead"), clock)


def test_a_file_without_a_mapping_is_refused(settings: FeedSettings) -> None:
    with pytest.raises(ConfigurationError, match="--mapping"):
        open_feed(FeedSettings(input=settings.input), clock)
