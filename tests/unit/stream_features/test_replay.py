"""Replay: order, labels and the independence of how the events are cut into batches."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from typer.testing import CliRunner

from schemas.features import DAY, HOUR, NAMES
from stream_features.__main__ import app
from stream_features.engine.offline import OfflineEngine
from stream_features.offline.replay import replay_table
from stream_features.offline.transaction_table import table_columns

START = 1_700_000_000_000


def generated(rows: int, *, cards: int = 20, merchants: int = 10) -> pa.Table:
    """A seeded stream with every field, some of it missing, and fraud labels after six days."""
    random = np.random.default_rng(7)
    time = START + np.sort(random.integers(0, 60 * DAY, rows))

    def some(prefix: str, count: int) -> list[str | None]:
        picked = random.integers(-2, count, rows)
        return [f"{prefix}{number}" if number >= 0 else None for number in picked]

    fraud = random.random(rows) < 0.05
    return pa.table(
        {
            "transaction_id": [f"t{number}" for number in range(rows)],
            "card_id": [f"c{number}" for number in random.integers(0, cards, rows)],
            "merchant_id": [f"m{number}" for number in random.integers(0, merchants, rows)],
            "event_time": time,
            "amount": random.integers(0, 50_000, rows),
            "currency": ["EUR"] * rows,
            "device_id": some("d", 8),
            "ip": some("192.0.2.", 30),
            "mcc": pa.array(random.integers(1000, 1010, rows), pa.int32()),
            "merchant_country": [code and "DE" for code in some("D", 1)],
            "latitude": random.uniform(-90, 90, rows),
            "longitude": random.uniform(-180, 180, rows),
            "label": fraud,
            "label_time": time + 6 * DAY,
        }
    )


def column(vectors: np.ndarray, name: str) -> np.ndarray:  # type: ignore[type-arg]
    return vectors[:, NAMES.index(name)]


def test_any_cut_into_batches_gives_the_same_bits() -> None:
    columns = table_columns(generated(3000).drop(["label", "label_time"]))
    whole, _ = OfflineEngine().process(columns)
    engine = OfflineEngine()
    cuts = [0, 1, 2, 17, 900, 901, 2500, 3000]
    parts = [engine.process(columns.cut(low, high))[0] for low, high in pairwise(cuts)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_no_vector_looks_ahead() -> None:
    table = generated(1500)
    half = replay_table(table.slice(0, 700)).vectors
    assert replay_table(table).vectors[:700].tobytes() == half.tobytes()


def test_labels_within_the_delay_may_come_at_any_time() -> None:
    table = generated(3000)
    at_once = table.set_column(13, "label_time", table["event_time"])
    delayed = replay_table(table).vectors
    assert column(delayed, "merchant_fraud_rate_30d").max() > 0
    assert replay_table(at_once).vectors.tobytes() == delayed.tobytes()


def test_a_label_that_comes_later_counts_from_then_on() -> None:
    rows = 40
    table = pa.table(
        {
            "transaction_id": [f"t{number}" for number in range(rows)],
            "card_id": ["c"] * rows,
            "merchant_id": ["m"] * rows,
            "event_time": START + DAY * np.arange(rows),
            "amount": [100] * rows,
            "currency": ["EUR"] * rows,
            "label": [number == 0 for number in range(rows)],
            "label_time": START + DAY * np.arange(rows) + 10 * DAY,
        }
    )
    rate = column(replay_table(table).vectors, "merchant_fraud_rate_30d")
    assert rate[9] == 0
    assert rate[10] == np.float32(1 / 4)
    assert rate[36] > 0
    assert rate[37] == 0


def test_a_hot_card_keeps_exact_counts_and_bounded_state() -> None:
    rows = 3000
    table = generated(rows, cards=1, merchants=3)
    table = table.set_column(3, "event_time", pa.array(START + 1000 * np.arange(rows)))
    vectors = replay_table(table.drop(["label", "label_time"])).vectors
    number = np.arange(1, rows + 1)
    assert (column(vectors, "card_tx_count_24h") == number).all()
    total = np.cumsum(table["amount"].to_numpy()) / 100
    assert np.allclose(column(vectors, "card_amount_sum_30d"), total, rtol=1e-6)
    hour = np.minimum(number, HOUR // 1000)
    assert np.allclose(column(vectors, "transaction_velocity_1h"), hour, atol=150)
    five = np.minimum(number, 300)
    assert np.allclose(column(vectors, "card_tx_count_5m"), five, atol=10)
    merchants = column(vectors, "card_distinct_merchants_24h")
    assert merchants[-1] == 3


def test_the_command_writes_one_column_for_each_feature(tmp_path: Path) -> None:
    table = generated(500)
    pq.write_table(table, tmp_path / "in.parquet")
    fields = "".join(
        f"  {name}: {name}\n"
        for name in table.column_names
        if name not in {"label", "label_time", "event_time", "amount"}
    )
    (tmp_path / "m.yaml").write_text(
        f"fields:\n{fields}  event_time: event_time\n  amount: amount\n"
        "  label: {column: label, fraud: 'true', delay: 6d}\n"
    )
    arguments = ["replay", "--input", str(tmp_path / "in.parquet"), "--mapping",
                 str(tmp_path / "m.yaml"), "--output", str(tmp_path / "out.parquet")]  # fmt: skip
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    written = pq.read_table(tmp_path / "out.parquet")
    expected = replay_table(table)
    for index, name in enumerate(NAMES):
        assert written[name].to_numpy().tobytes() == expected.vectors[:, index].tobytes()


def test_a_missing_channel_is_other_as_in_the_decoder() -> None:
    table = generated(3).append_column("channel", pa.array(["ATM", None, "POS"]))
    assert table_columns(table).channel.tolist() == [2, 4, 0]


def test_a_missing_mcc_is_none_and_not_the_code_0() -> None:
    table = generated(3)
    place = table.column_names.index("mcc")
    table = table.set_column(place, "mcc", pa.array([5411, None, 0], pa.int32()))
    assert table_columns(table).mcc.tolist() == [5411, -1, 0]


def test_a_replay_says_at_its_end_what_was_not_an_ordinary_purchase(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(
        "id,card,shop,when,amt,type,address\n"
        "t1,c1,s1,2024-01-01T10:00,10.00,,192.0.2.7\n"
        "t2,c1,s1,2024-01-01T11:00,-3.00,,somewhere\n"
        "t2,c1,s1,2024-01-01T12:00,-3.00,,192.0.2.7\n"
        "t3,c1,s1,2024-01-01T13:00,0.00,V,192.0.2.7\n"
        "t4,c1,s1,2099-01-01T13:00,1.00,,192.0.2.7\n"
        "t5,c1,s1,2024-01-01T14:00,5.00,,192.0.2.7\n"
    )
    (tmp_path / "m.yaml").write_text(
        "fields:\n  transaction_id: id\n  card_id: card\n  merchant_id: shop\n  event_time: when\n"
        "  amount: {column: amt, unit: major, negative: refund}\n  currency: {constant: EUR}\n"
        "  kind: {column: type, values: {V: verification}}\n  ip: address\n"
    )
    arguments = ["replay", "--input", str(tmp_path / "in.csv"), "--mapping",
                 str(tmp_path / "m.yaml"), "--output", str(tmp_path / "out.parquet"),
                 "--max-rejected", "0.5", "--json", str(tmp_path / "report.json")]  # fmt: skip
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["told"] == {
        "refunds": 2, "reversals": 0, "verifications": 1, "duplicates": 1, "late": 0,
    }  # fmt: skip
    assert report["input"]["unread"] == {"ip": 1}
    ending = " ".join(result.output.split())
    assert "among them: 2 refunds, 1 verification, 1 duplicate" in ending
    assert "left out: 1 × event_time is more than 5 min ahead of our clock" in ending
    assert "could not be read: ip 1" in ending
    written = pq.read_table(tmp_path / "out.parquet").to_pydict()
    assert written["duplicate"] == [False, False, True, False, False]
    assert written["card_tx_count_24h"] == [1, 1, 1, 2, 3]
    assert written["card_amount_sum_24h"] == [10, 10, 10, 10, 15]
    assert written["card_amount_mean_24h"] == [10, 10, 10, 5, 5]
    assert written["merchant_tx_count_24h"] == [1, 1, 1, 2, 3]
    assert written["amount"] == [10, 3, 3, 0, 5]


def test_a_refund_with_nothing_before_has_counts_of_0_and_no_mean() -> None:
    table = generated(1).append_column("kind", pa.array(["REFUND"]))
    row = dict(zip(NAMES, replay_table(table).vectors[0].tolist(), strict=True))
    for name in ("card_tx_count_30d", "card_amount_sum_30d", "card_distinct_merchants_30d",
                 "card_small_tx_count_1h", "merchant_tx_count_30d"):  # fmt: skip
        assert row[name] == 0, name
    for name in ("card_amount_mean_30d", "card_amount_max_30d", "card_velocity_ratio_24h_30d",
                 "card_spend_ratio_24h_30d", "merchant_amount_mean_30d"):  # fmt: skip
        assert np.isnan(row[name]), name
    assert row["card_merchant_is_new"] == 1
    assert row["amount"] > 0
