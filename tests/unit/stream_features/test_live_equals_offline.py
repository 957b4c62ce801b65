"""The live engine, batch by batch over stored bytes, equals the offline engine bit for bit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from rich.console import Console

from schemas.columns import PURCHASE, REFUND, REVERSAL, TransactionColumns, empty_columns
from schemas.features import DAY, HOUR, NAMES
from stream_features.engine.live import LiveEngine, LiveResult
from stream_features.engine.offline import OfflineEngine
from stream_features.engine.passes.fraud_labels import NOTHING, PENDING, REFUSED
from stream_features.engine.passes.workspace import DUPLICATE
from stream_features.engine.state import blob
from stream_features.operate.show import readable, state_of

START = 1_700_000_000_000
MERCHANT_COUNT = NAMES.index("merchant_tx_count_30d")
MERCHANT_RATE = NAMES.index("merchant_fraud_rate_30d")
LATER = 150
"""Transactions in six days of the stream of many frauds."""


class DictStore:
    """What the commit does to stored values, on a dictionary."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}

    def load(self, keys: list[bytes]) -> list[bytes | None]:
        assert len(set(keys)) == len(keys)
        return [self.values.get(key) for key in keys]

    def commit(self, result: LiveResult) -> None:
        self.values.update(result.cards)
        for key, records in result.appends:
            self.values[key] = self.values.get(key, blob.NEW_SHARED) + records
        for fold in result.folds:
            held = self.values.get(fold.key, b"")
            generation = int.from_bytes(held[:4], "little")
            if (generation, len(held)) == (fold.expected_generation, fold.expected_length):
                self.values[fold.key] = fold.value
            else:
                self.values[fold.key] = (held or blob.NEW_SHARED) + fold.records


def stream(rows: int, *, cards: int, span: int, seed: int) -> TransactionColumns:
    """A seeded stream with late events, duplicates and missing fields."""
    random = np.random.default_rng(seed)
    time = START + np.sort(random.integers(0, span, rows))
    late = random.random(rows) < 0.1
    time[late] -= random.integers(0, 40 * DAY, int(late.sum()))
    transaction = np.arange(1, rows + 1, dtype=np.uint64)
    card = random.integers(1, cards + 1, rows).astype(np.uint64)
    for row in np.flatnonzero(random.random(rows) < 0.05):
        other = int(random.integers(0, row + 1))
        transaction[row], card[row] = transaction[other], card[other]
    return empty_columns(rows)._replace(
        time=time,
        amount=random.integers(0, 100_000, rows),
        transaction=transaction,
        card=card,
        merchant=random.integers(1, 6, rows).astype(np.uint64) << np.uint64(60),
        device=random.integers(0, 4, rows).astype(np.uint64),
        ip=random.integers(0, 30, rows).astype(np.uint64),
        position=random.integers(0, 2**62, rows).astype(np.uint64) * (random.random(rows) < 0.7),
        mcc=random.integers(-1, 30, rows).astype(np.int32),
        merchant_country=random.integers(0, 5, rows).astype(np.uint16),
    )


def labels(columns: TransactionColumns, seed: int) -> npt.NDArray[np.bool_]:
    return np.random.default_rng(seed).random(columns.rows) < 0.1


@pytest.mark.parametrize(
    ("rows", "cards", "span"),
    [(600, 30, 60 * DAY), (900, 1, 2 * HOUR), (2500, 3, 50 * DAY)],
    ids=["small", "hot card", "hot merchants"],
)
def test_any_batching_over_stored_bytes_gives_the_same_bits(
    rows: int, cards: int, span: int
) -> None:
    columns = stream(rows, cards=cards, span=span, seed=rows)
    kinds = np.random.default_rng(2).choice(4, rows, p=[0.7, 0.15, 0.05, 0.1])
    columns = columns._replace(kind=kinds.astype(np.int8))
    fraud = labels(columns, seed=1)
    offline, live, store = OfflineEngine(), LiveEngine(prefix=b"t:"), DictStore()
    random = np.random.default_rng(5)
    first = 0
    while first < rows:
        last = min(rows, first + int(random.integers(1, 90)))
        batch = columns.cut(first, last)
        expected, expected_flags = offline.process(batch)
        opened = live.open(batch)
        result = live.process(batch, opened, store.load(opened.keys))
        assert result.vectors.tobytes() == expected.tobytes()
        assert result.flags.tobytes() == expected_flags.tobytes()
        store.commit(result)
        # Some labels of this batch, some ahead of their transactions, some taken back.
        picked = np.arange(max(0, first - 20), min(rows, last + 20))
        known = fraud[picked] ^ (random.random(len(picked)) < 0.05)
        arguments = (
            columns.card[picked], columns.transaction[picked], columns.time[picked], known,
        )  # fmt: skip
        expected_outcome = offline.apply_labels(*arguments)
        opened = live.open_labels(columns.card[picked])
        labelled, outcome = live.apply_labels(*arguments, opened, store.load(opened.keys))
        assert outcome.tobytes() == expected_outcome.tobytes()
        store.commit(labelled)
        first = last


def test_many_frauds_known_days_later_give_the_same_bits() -> None:
    """Busy merchants whose frauds are labelled after a week, hundreds of them, for four months."""
    rows = 3_000
    columns = stream(rows, cards=300, span=120 * DAY, seed=8)
    columns = columns._replace(
        card=columns.card << np.uint64(50),  # like hashes: none meets another with a transaction
        merchant=np.arange(rows, dtype=np.uint64) % np.uint64(2) + np.uint64(1),
    )
    fraud = np.random.default_rng(9).random(rows) < 0.3
    offline, live, store = OfflineEngine(), LiveEngine(), DictStore()
    rates = []
    for first in range(0, rows, 50):
        batch = columns.cut(first, first + 50)
        expected, _ = offline.process(batch)
        opened = live.open(batch)
        result = live.process(batch, opened, store.load(opened.keys))
        assert result.vectors.tobytes() == expected.tobytes()
        store.commit(result)
        rates.append(float(expected[-1, MERCHANT_RATE]))
        known = max(0, first - LATER)
        picked = np.arange(max(0, known - 50), known)
        picked = picked[fraud[picked]]
        arguments = (
            columns.card[picked], columns.transaction[picked], columns.time[picked],
            np.ones(len(picked), np.bool_),
        )  # fmt: skip
        offline.apply_labels(*arguments)
        opened = live.open_labels(columns.card[picked])
        taken, _ = live.apply_labels(*arguments, opened, store.load(opened.keys))
        store.commit(taken)
    assert min(rates[-10:]) > 0.2  # frauds do not fall out of the count


def test_a_label_that_waits_makes_room_when_its_time_has_passed() -> None:
    """A card holds 128 early labels; those whose transactions would be late by now do not count."""

    def label(first: int, count: int, at: int) -> set[int]:
        numbers = np.arange(first, first + count, dtype=np.uint64)
        times, frauds = np.full(count, at), np.ones(count, np.bool_)
        return set(engine.apply_labels(card * numbers**0, numbers, times, frauds).tolist())

    engine, card = OfflineEngine(), np.uint64(7 << 50)
    assert label(1, 128, START) == {PENDING}
    assert label(1_000, 1, START) == {REFUSED}
    later = empty_columns(1)._replace(
        time=np.array([START + 40 * DAY]), transaction=np.array([5_000], np.uint64),
        card=np.array([card]), merchant=np.array([9], np.uint64),
    )  # fmt: skip
    engine.process(later)
    assert label(2_000, 1, START + 40 * DAY) == {PENDING}


def test_a_refund_changes_no_state_but_what_makes_its_repeat_a_duplicate() -> None:
    """The bytes of card, merchant, device and address are those of the purchases alone."""
    columns = stream(300, cards=3, span=20 * DAY, seed=4)
    columns = columns._replace(
        time=START + HOUR * np.arange(300), transaction=np.arange(1, 301, dtype=np.uint64)
    )
    kinds = np.arange(300) % 3
    mixed = columns._replace(kind=np.where(kinds == 2, REVERSAL, kinds).astype(np.int8))
    purchases = columns.take(np.flatnonzero(kinds == PURCHASE))
    stores = []
    for each in (purchases, mixed):
        live, store = LiveEngine(), DictStore()
        for first in range(0, each.rows, 37):
            batch = each.cut(first, min(first + 37, each.rows))
            opened = live.open(batch)
            result = live.process(batch, opened, store.load(opened.keys))
            store.commit(result)
        stores.append(store.values)
    alone, together = stores
    assert {key: value for key, value in together.items() if key[:1] != b"c"} == {
        key: value for key, value in alone.items() if key[:1] != b"c"
    }
    for key in [key for key in alone if key[:1] == b"c"]:
        assert blob.card_events(together[key]) == blob.card_events(alone[key])
    given_back = mixed.take(np.flatnonzero(kinds != PURCHASE))
    live, store = LiveEngine(), DictStore()
    store.values = dict(together)
    opened = live.open(given_back)
    again = live.process(given_back, opened, store.load(opened.keys))
    assert set(again.flags.tolist()) == {DUPLICATE}
    assert (again.cards, again.appends, again.folds) == ([], [], [])


def test_a_card_that_has_had_only_a_refund_can_be_shown() -> None:
    refund = stream(1, cards=1, span=HOUR, seed=1)._replace(kind=np.array([REFUND], np.int8))
    live = LiveEngine()
    result = live.process(refund, live.open(refund), [None] * 4)
    [(key, value)] = result.cards
    shown = state_of("card", "c", key, value, 1, 7 * DAY)
    assert (shown.exact, shown.given_back, shown.pending) == (0, 1, 0)
    console = Console(width=100, record=True)
    console.print(readable(shown, 2))
    assert "first seen            │ none" in console.export_text()


def test_a_card_of_many_refunds_forgets_the_oldest_and_no_pending_label() -> None:
    engine, card = OfflineEngine(), np.uint64(7 << 50)

    def refunds(first: int, count: int) -> set[int]:
        numbers = np.arange(first, first + count, dtype=np.uint64)
        columns = empty_columns(count)._replace(
            time=np.full(count, START), transaction=numbers, card=card * numbers**0,
            kind=np.full(count, REFUND, np.int8),
        )  # fmt: skip
        return set(engine.process(columns)[1].tolist())

    def label(first: int, count: int, fraud: bool = True) -> set[int]:
        numbers = np.arange(first, first + count, dtype=np.uint64)
        times, frauds = np.full(count, START), np.full(count, fraud)
        return set(engine.apply_labels(card * numbers**0, numbers, times, frauds).tolist())

    assert label(1_000, 28) == {PENDING}
    assert refunds(1, 100) == {0}
    assert refunds(1, 100) == {DUPLICATE}
    assert label(1, 100) == {NOTHING}
    assert refunds(101, 1) == {0}  # which takes the place of the first
    assert refunds(2, 100) == {DUPLICATE}
    assert label(2_000, 1) == {PENDING}  # which takes the place of the second
    assert refunds(3, 99) == {DUPLICATE}
    assert refunds(2, 1) == {0}


def test_a_fold_that_lost_the_race_keeps_every_event() -> None:
    """Two workers fold the same merchant; both sets of events are there in the end."""
    columns = stream(400, cards=40, span=HOUR, seed=3)
    columns = columns._replace(merchant=np.full(400, 7, np.uint64), device=columns.device * 0)
    mine = columns.cut(0, 200)
    yours = columns.cut(200, 400)
    live, store = LiveEngine(), DictStore()
    results = []
    for batch in (mine, yours):
        opened = live.open(batch)
        results.append(live.process(batch, opened, store.load(opened.keys)))
    assert all(result.folds for result in results)
    for result in results:
        store.commit(result)
    key = next(key for key in store.values if key.startswith(b"m"))
    probe = empty_columns(1)._replace(
        time=np.array([START + 2 * HOUR]), transaction=np.array([10**6], np.uint64),
        card=np.array([10**6], np.uint64), merchant=np.array([7], np.uint64),
    )  # fmt: skip
    vector = live.process(probe, live.open(probe), [None, store.values[key]]).vectors[0]
    flags = np.concatenate([result.flags for result in results])
    counted = int(((flags == 0) & (columns.time > START + 2 * HOUR - 30 * DAY)).sum())
    assert vector[MERCHANT_COUNT] == counted + 1


def test_an_entity_seen_once_is_small() -> None:
    columns = stream(1, cards=1, span=HOUR, seed=1)
    live = LiveEngine()
    opened = live.open(columns)
    result = live.process(columns, opened, [None] * len(opened.keys))
    assert all(len(value) <= 160 for _, value in result.cards)
    assert all(len(blob.NEW_SHARED + records) <= 40 for _, records in result.appends)
