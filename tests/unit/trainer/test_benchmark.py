"""The handbook's protocol by hand examples, and the whole command on a small synthetic set."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from schemas.errors import ConfigurationError
from schemas.features import DAY
from trainer.__main__ import app
from trainer.benchmark import handbook
from trainer.benchmark.handbook_benchmark import LEFT_OUT
from trainer.benchmark.handbook_protocol import STARTS, card_precision, make_fold
from trainer.dataset.replayed import from_table

START = date(2020, 1, 10)
MIDNIGHT = round(datetime(2020, 1, 10, tzinfo=UTC).timestamp() * 1000)


def test_published_training_weeks() -> None:
    assert [day.isoformat() for day in STARTS] == [
        "2018-08-15",
        "2018-08-08",
        "2018-08-01",
        "2018-07-25",
    ]


def test_the_columns_of_the_published_figures_are_left_out_and_no_other() -> None:
    assert sorted(LEFT_OUT) == [
        "card_age_days", "card_hour_deviation", "day_of_week", "hour_of_day", "is_night",
        "is_weekend", "merchant_age_days",
    ]  # fmt: skip


def test_a_fold_is_a_week_a_week_of_delay_and_a_week() -> None:
    days = np.repeat(np.arange(-3, 25), 2)
    within = np.tile([0, DAY - 1], 28)  # first and last millisecond of each day
    time = MIDNIGHT + days * DAY + within
    fold = make_fold(START, time, np.arange(56), np.zeros(56, np.bool_))
    assert sorted(set(days[fold.week])) == list(range(7))
    assert sorted(set(days[fold.history])) == list(range(-3, 7))
    assert sorted(set(days[fold.test])) == list(range(14, 21))
    assert (fold.day == days[fold.test] - 14).all()
    assert len(fold.test) == 14
    assert (fold.first_ms, fold.test_ms) == (MIDNIGHT, MIDNIGHT + 14 * DAY)


def test_a_card_is_out_once_its_fraud_is_known() -> None:
    """Frauds of cards 1-5 on days 3, 7, 9, 13 and -1; every card buys on each test day."""
    frauds = {1: 3, 2: 7, 3: 9, 4: 13, 5: -1}
    rows = [(day, card, False) for day in range(14, 21) for card in range(1, 7)]
    rows += [(day, card, True) for card, day in frauds.items()]
    days, cards, fraud = map(np.array, zip(*sorted(rows), strict=True))
    fold = make_fold(START, MIDNIGHT + days * DAY, cards, fraud)
    seen = {card: set(fold.day[cards[fold.test] == card].tolist()) for card in range(1, 7)}
    assert seen == {
        1: set(),  # in the training week
        2: {0},  # day 7 is known on test day 1 (7 + 1 - 1 = 7), and stays known
        3: {0, 1, 2},  # day 9 = 7 + 3 - 1
        4: set(range(7)),  # day 13 would be known on test day 7
        5: set(range(7)),  # before the training week: the protocol does not look there
        6: set(range(7)),
    }


def test_card_precision_by_hand() -> None:
    """Two cards a day: a card counts by its best score, and once caught is not seen again."""
    table = [  # day, card, score, fraud
        (0, 7, 0.1, True),  # card 7: found by its other transaction
        (0, 7, 0.9, False),
        (0, 8, 0.8, False),  # second place, genuine
        (0, 9, 0.7, True),  # third: not looked at
        (1, 7, 0.99, True),  # caught yesterday: makes room
        (1, 8, 0.6, True),  # looked at yesterday without fraud: still in play
        (1, 9, 0.5, True),
        (1, 6, 0.4, True),
        (2, 6, 0.4, True),  # one card left: the precision is still of two
        (2, 8, 0.9, True),
    ]
    day, card, score, fraud = (np.array(column) for column in zip(*table, strict=True))
    assert card_precision(score, card, fraud, day, top=2) == pytest.approx((0.5 + 1 + 0.5) / 3)


def transactions(rows: int = 3000, days: int = 24) -> pa.Table:
    """Return a set with the handbook's columns: frauds are of large amounts, mostly."""
    random = np.random.default_rng(4)
    fraud = random.random(rows) < 0.06
    large = np.where(random.random(rows) < 0.98, fraud, ~fraud)
    return pa.table(
        {
            "tx_id": np.arange(rows, dtype=np.int32),
            "tx_time": MIDNIGHT // 1000
            - 2 * 86_400
            + np.sort(random.integers(0, days * 86_400, rows)),
            "customer_id": random.integers(0, 800, rows),
            "terminal_id": random.integers(0, 50, rows),
            "amount_cents": np.where(
                large, random.integers(30_000, 60_000, rows), random.integers(100, 40_000, rows)
            ),
            "fraud": fraud.astype(np.int8),
        }
    )


def test_command_measures_both_trainings_and_the_published_features(tmp_path: Path) -> None:
    data, published = tmp_path / "data.parquet", tmp_path / "published.parquet"
    table = transactions()
    pa.parquet.write_table(table, data)
    shuffled = np.random.default_rng(1).permutation(table.num_rows)
    pa.parquet.write_table(table.select(["tx_id", "fraud"]).take(pa.array(shuffled)), published)
    options = ["benchmark", "--data", str(data), "--start", "2020-01-09", "--start", "2020-01-10"]
    options += ["--rounds", "40", "--json", str(tmp_path / "out.json")]
    result = CliRunner().invoke(app, [*options, "--published", str(published)])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out.json").read_text())
    # The published feature is the label itself here: only rows that go with the right one get 1.
    assert report["published_features"]["auc"] == 1.0
    for part in ("strict", "full"):
        assert 0.7 < report[part]["auc"] < 1.0
        assert report[part]["ap"] > 0.4
        assert 0 < report[part]["cardp100"] < 0.2
        folds = report[part]["folds"]
        assert [fold["start"] for fold in folds] == ["2020-01-09", "2020-01-10"]
        aucs = [fold["auc"] for fold in folds]
        assert report[part]["auc"] == pytest.approx(np.mean(aucs))
        assert report[part]["std"]["auc"] == pytest.approx(np.std(aucs, ddof=1))
    assert report["full"]["auc"] != report["strict"]["auc"]
    again = CliRunner().invoke(app, options)
    assert again.exit_code == 0, again.output
    second = json.loads((tmp_path / "out.json").read_text())
    assert second["strict"] == report["strict"]
    assert second["published_features"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--start", "2020-03-01"], "reaches from 2020-01-08 to 2020-01-31"),
        ([], "2018-08-15"),
        (["--start", "2020-01-10", "--published", "{tmp}/short.parquet"], "lacks 1 of the 3000"),
        (["--start", "2020-01-10", "--published", "{tmp}/text.parquet"], "column 'x'"),
        (["--start", "2020-01-10", "--published", "{tmp}/nokey.parquet"], "no column 'tx_id'"),
    ],
)
def test_unusable_input_is_named(tmp_path: Path, options: list[str], message: str) -> None:
    table = transactions()
    pa.parquet.write_table(table, tmp_path / "data.parquet")
    pa.parquet.write_table(table.slice(1).select(["tx_id"]), tmp_path / "short.parquet")
    text = pa.table({"tx_id": table.column("tx_id"), "x": ["a"] * 3000})
    pa.parquet.write_table(text, tmp_path / "text.parquet")
    pa.parquet.write_table(table.select(["fraud"]), tmp_path / "nokey.parquet")
    arguments = [option.format(tmp=tmp_path) for option in options]
    result = CliRunner().invoke(
        app, ["benchmark", "--data", str(tmp_path / "data.parquet"), *arguments]
    )
    assert isinstance(result.exception, ConfigurationError)
    assert message in str(result.exception)


def test_the_simulators_own_columns_are_understood(tmp_path: Path) -> None:
    table = transactions()
    seconds = pa.array(table.column("tx_time").to_numpy(), pa.timestamp("s"))
    renamed = pa.table(
        {
            "TRANSACTION_ID": table.column("tx_id"),
            "TX_DATETIME": seconds,
            "CUSTOMER_ID": table.column("customer_id"),
            "TERMINAL_ID": table.column("terminal_id"),
            "TX_AMOUNT": table.column("amount_cents").to_numpy() / 100,
            "TX_FRAUD": table.column("fraud"),
        }
    )
    pa.parquet.write_table(table, tmp_path / "short.parquet")
    pa.parquet.write_table(renamed, tmp_path / "long.parquet")
    pa.parquet.write_table(renamed.drop_columns(["TX_FRAUD"]), tmp_path / "unlabelled.parquet")
    short, long = (
        from_table(handbook.read_mapped(tmp_path / f"{name}.parquet", None)[0])
        for name in ("short", "long")
    )
    np.testing.assert_array_equal(short.vectors, long.vectors)
    np.testing.assert_array_equal(short.fraud, long.fraud)
    with pytest.raises(ConfigurationError, match="--mapping"):
        handbook.read_mapped(tmp_path / "unlabelled.parquet", None)
