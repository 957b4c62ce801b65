"""The dataset is what was known at the cut-off, and the same again from the same versions."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from runtime.kafka.protocols import Message
from schemas.columns import PURCHASE, VERIFICATION
from schemas.errors import ConfigurationError
from schemas.features import DAY
from tests.support.trainer.archive_messages import (
    DECODING,
    START,
    add,
    decision,
    feature,
    filled,
    label,
)
from trainer.archive import delta_tables
from trainer.archive.delta_tables import Archive
from trainer.archive.table_rows import SCHEMAS
from trainer.dataset.archived import content_hash, from_archive

MATURITY = 1000
CUTOFF = START + 2000


def labelled(tmp_path: Path, *labels: Message) -> list[bool]:
    """Return the verdicts of transactions 0 and 1 under these labels."""
    archive = filled(str(tmp_path / "a"), features=[feature(0), feature(1)], labels=labels)
    data, _ = from_archive(archive, cutoff_ms=CUTOFF, maturity_ms=MATURITY)
    verdicts: list[bool] = data.fraud.tolist()
    return verdicts


def test_the_newest_label_known_at_the_cutoff_decides(tmp_path: Path) -> None:
    events = [
        label(0, 0, fraud=True, source="CHARGEBACK", label_time=START + 900),
        label(1, 0, fraud=False, source="ANALYST", label_time=START + 300),  # arrived later
        label(2, 1, fraud=False, label_time=START + 100),
        label(3, 1, fraud=True, label_time=START + 100),  # same time: the later one
        label(4, 1, fraud=False, label_time=CUTOFF + 1),  # not known yet
    ]
    assert labelled(tmp_path, *events) == [True, True]


def test_a_label_of_another_card_is_not_ours(tmp_path: Path) -> None:
    assert labelled(tmp_path, label(0, 0, card_id="other")) == [False, False]


def test_only_mature_rows_in_event_order_and_the_unlabelled_are_genuine(tmp_path: Path) -> None:
    archive = filled(
        str(tmp_path / "a"),
        features=[
            feature(0, event_time=START + 7),
            feature(1, event_time=START + 5),
            feature(2, event_time=START + MATURITY),
            feature(3, event_time=START + MATURITY + 1),
            feature(4, event_time=START - 1),
            feature(5, duplicate=True),
            feature(6, late=True),
            feature(7, fingerprint=b"olderone"),
            feature(8, kind="REFUND"),
            feature(9, kind="REVERSAL"),
            feature(10, kind="VERIFICATION", event_time=START + 8),
        ],
        labels=[label(0, 1), label(1, 3), label(2, 0, fraud=False, label_time=START + 6)],
    )
    data, provenance = from_archive(archive, cutoff_ms=CUTOFF, maturity_ms=MATURITY, since_ms=START)
    assert (data.time - START).tolist() == [5, 7, 8, MATURITY]
    assert data.transactions.kind.tolist() == [PURCHASE, PURCHASE, VERIFICATION, PURCHASE]
    assert data.fraud.tolist() == [True, False, False, False]
    assert (data.label_time - START).tolist() == [11, 6, MATURITY + 8, 2 * MATURITY]
    drawn = (1, 0, 10, 2)
    expected = [np.random.default_rng([0, 0, n]).normal(size=70).astype("<f4") for n in drawn]
    assert np.array_equal(data.vectors, np.array(expected))
    assert provenance["counts"] == {
        "rows": 4, "frauds": 1, "labelled": 2, "unlabelled_taken_as_genuine": 2, "duplicates": 1,
        "late": 1, "foreign_fingerprint": 1, "labels_before_transactions": 1,
        "refunds_and_reversals": 2,
    }  # fmt: skip
    assert json.loads(json.dumps(provenance)) == provenance


def test_the_same_versions_give_the_same_hash_after_appends_and_compaction(tmp_path: Path) -> None:
    archive = filled(
        str(tmp_path / "a"),
        features=[feature(n, event_time=START + n // 2) for n in range(20)],
        labels=[label(0, 3)],
    )
    add(archive, "features", [feature(n, partition=1, event_time=START) for n in range(20)])
    first, kept = from_archive(archive, cutoff_ms=CUTOFF, maturity_ms=MATURITY)
    add(archive, "labels", [label(1, 5)])
    add(archive, "features", [feature(20)])
    archive.compact("features")
    _, new = from_archive(archive, cutoff_ms=CUTOFF, maturity_ms=MATURITY)
    again, old = from_archive(
        Archive(archive.url), cutoff_ms=CUTOFF, maturity_ms=MATURITY, versions=kept["versions"]
    )
    assert new["sha256"] != kept["sha256"] == old["sha256"] == content_hash(again)
    assert len(again) == len(first) == 40
    assert new["counts"]["rows"] == 41
    assert new["counts"]["frauds"] == 2


def test_every_array_is_in_the_hash(tmp_path: Path) -> None:
    archive = filled(str(tmp_path / "a"), features=[feature(0)])
    data, provenance = from_archive(archive, cutoff_ms=CUTOFF, maturity_ms=MATURITY)
    changed = [
        replace(data, transactions=data.transactions._replace(amount=np.array([7]))),
        replace(data, transactions=data.transactions._replace(kind=np.array([3], np.int8))),
        replace(data, vectors=data.vectors + 1),
        replace(data, fraud=~data.fraud),
        replace(data, label_time=data.label_time + 1),
        replace(data, weight=np.ones(1, np.float32)),
        replace(data, weight=np.zeros(1, np.float32)),
        replace(data, settled=np.ones(1, np.bool_)),
        replace(data, settled=np.zeros(1, np.bool_)),
    ]
    hashes = {content_hash(data), *map(content_hash, changed)}
    assert provenance["sha256"] in hashes
    assert len(hashes) == 1 + len(changed)


def test_an_archive_that_is_older_than_kinds_gets_their_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = {
        name: pa.schema([field for field in schema if field.name not in ("kind", "unread")])
        for name, schema in SCHEMAS.items()
    }
    url = str(tmp_path / "a")
    with monkeypatch.context() as before:
        before.setattr(delta_tables, "SCHEMAS", older)
        archive = Archive(url)
        archive.create()
        rows = DECODING.rows("features", [feature(0)]).table
        archive.append("features", rows.select(older["features"].names), [])
        kept = archive.versions()
    archive = Archive(url)
    archive.create()
    add(archive, "features", [feature(1, kind="REFUND"), feature(2)])
    add(archive, "decisions", [decision(2, unread=["ip"], kind="VERIFICATION")])
    assert archive.read("decisions", columns=["kind", "unread"]).to_pylist() == [
        {"kind": "VERIFICATION", "unread": ["ip"]}
    ]
    data, provenance = from_archive(archive, cutoff_ms=CUTOFF, maturity_ms=MATURITY)
    assert (data.time - START).tolist() == [0, 2]
    assert provenance["counts"]["refunds_and_reversals"] == 1
    again, _ = from_archive(archive, cutoff_ms=CUTOFF, maturity_ms=MATURITY, versions=kept)
    assert (again.time - START).tolist() == [0]


def test_a_version_that_was_cleaned_away_is_named(tmp_path: Path) -> None:
    url = str(tmp_path / "a")
    archive = filled(url, features=[feature(0)], labels=[label(0, 0)], decisions=[decision(0)])
    add(archive, "features", [feature(1)])
    _, kept = from_archive(archive, cutoff_ms=CUTOFF, maturity_ms=MATURITY)
    archive.compact("features")
    for file in Path(url, "features").glob("event_date=*/*.parquet"):
        if f"{file.name}" not in json.dumps(archive.refreshed("features").file_uris()):
            file.unlink()  # as vacuum does when the time to keep versions is over
    with pytest.raises(ConfigurationError, match=r"is gone.*FRAUD_ARCHIVE_KEEP_VERSIONS"):
        from_archive(archive, cutoff_ms=CUTOFF, maturity_ms=MATURITY, versions=kept["versions"])


def test_bad_requests_are_named(tmp_path: Path) -> None:
    empty = filled(str(tmp_path / "empty"))
    with pytest.raises(ConfigurationError, match="has no transaction"):
        from_archive(empty, cutoff_ms=CUTOFF, maturity_ms=MATURITY)
    with pytest.raises(ConfigurationError, match="in the future"):
        from_archive(empty, cutoff_ms=time.time_ns() // 1_000_000 + DAY, maturity_ms=0)
    older = filled(str(tmp_path / "older"), features=[feature(0, fingerprint=b"olderone")])
    with pytest.raises(ConfigurationError, match="another feature catalogue"):
        from_archive(older, cutoff_ms=CUTOFF, maturity_ms=MATURITY)
    with pytest.raises(ConfigurationError, match="lack the tables"):
        from_archive(older, cutoff_ms=CUTOFF, maturity_ms=MATURITY, versions={"features": 1})


def test_early_rows_count_by_what_is_known_of_them(tmp_path: Path) -> None:
    """Delays of mature frauds are 10 or 100; a fraud of age 40 stands for two."""
    frauds = [
        label(n, n, label_time=START + n + (10 if n % 2 else 100), source="CUSTOMER")
        for n in range(60)
    ]
    cutoff = START + 2_000
    immature: dict[int, Any] = {
        100: {"event_time": cutoff - 50, "card_id": "a"},
        101: {"event_time": cutoff - 40, "card_id": "b"},  # known fraud
        102: {"event_time": cutoff - 30, "card_id": "b"},  # of the same card, not known
        103: {"event_time": cutoff - 20, "card_id": "c"},  # cleared by an analyst
        104: {"event_time": cutoff - 5, "card_id": "d"},  # no label can have come yet
        105: {"event_time": cutoff - 4, "card_id": "e"},  # settled as fraud, then reported, too
    }
    archive = filled(
        str(tmp_path / "a"),
        features=[
            *(feature(n) for n in range(60)),
            *(feature(n, **fields) for n, fields in immature.items()),
        ],
        labels=[
            *frauds,
            label(60, 101, card_id="b", label_time=cutoff - 1, source="CUSTOMER"),
            label(61, 103, card_id="c", fraud=False, label_time=cutoff - 1),
            label(62, 105, card_id="e", label_time=cutoff - 2),
            label(63, 105, card_id="e", label_time=cutoff - 1, source="CUSTOMER"),
        ],
    )
    arguments: Any = {"cutoff_ms": cutoff, "maturity_ms": MATURITY}
    plain, _ = from_archive(archive, **arguments)
    data, provenance = from_archive(archive, **arguments, early=True)
    assert (len(plain), plain.immature, plain.weight) == (60, 0, None)
    assert (data.mature, data.immature, provenance["counts"]["young"]) == (60, 4, 4)
    assert data.weight is not None
    assert data.settled is not None
    assert data.weight[60:].tolist() == [1.0, 2.0, 1.0, 1.0]
    assert data.fraud[60:].tolist() == [False, True, False, True]
    assert data.settled[60:].tolist() == [False, False, True, True]
    assert content_hash(data) != content_hash(plain)
    assert json.dumps(provenance)


def test_what_became_mature_while_labels_were_silent_is_not_mature(tmp_path: Path) -> None:
    archive = filled(
        str(tmp_path / "a"),
        features=[feature(n, event_time=START + 100 * n) for n in range(10)],
        labels=[label(0, 0, label_time=START + 1_300)],
    )
    arguments: Any = {"cutoff_ms": START + 1_900, "maturity_ms": MATURITY}
    assert len(from_archive(archive, **arguments)[0]) == 10
    data, _ = from_archive(archive, **arguments, silence_ms=200)
    assert int(data.time[-1]) == START + 1_300 + 200 - MATURITY
