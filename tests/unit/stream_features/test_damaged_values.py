"""Whatever stands under the key of an entity in the store, it harms no process and no neighbour."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from rich.console import Console

from schemas.columns import empty_columns
from schemas.features import DAY
from schemas.keys import entity_key, refused_key
from stream_features.engine.live import LiveEngine, LiveResult, record
from stream_features.engine.state.blob import FRAUD_ADDED, NEW_SHARED
from stream_features.engine.state.blob_check import MAX_BYTES, fault_of
from stream_features.engine.state.entities import MARK_START, MARK_TRANSACTION, MARKED, new_tables
from stream_features.operate.show import readable, state_of
from tests.support.fuzzing import SECONDS
from tests.support.stream_features.damaged_values import OTHER, START, SUBJECT, Subject, good_values

CORPUS: Final = json.loads(Path(__file__).with_name("damaged_values.json").read_text())
"""Values that wrote or read behind their memory, stopped the process, or stayed for ever."""
FUZZ_SECONDS: Final = SECONDS or 6.0
LONG_S: Final = 60.0
"""From here on the fuzzed kernels check every index; to compile them anew takes a minute."""


@pytest.fixture(scope="module")
def subject() -> Subject:
    return Subject(list(good_values()))


def test_what_the_engine_writes_is_taken(subject: Subject) -> None:
    assert len(subject.good) == 12
    for kind, value in subject.good:
        assert subject.harm(kind, value) == []


@pytest.mark.parametrize("case", CORPUS, ids=[case["what"] for case in CORPUS])
def test_what_once_did_harm_is_refused(subject: Subject, case: dict[str, Any]) -> None:
    [refused] = subject.harm(case["kind"], bytes.fromhex(case["value"]))
    assert refused.fault == case["fault"]


def test_every_cut_value_is_refused_or_ends_between_two_records(subject: Subject) -> None:
    tables = new_tables()
    for kind, value in subject.good:
        taken = [
            size
            for size in range(1, len(value))
            if not fault_of(getattr(tables, kind), value[:size])
        ]
        whole = {(len(value) - size) % 14 for size in taken}
        assert whole <= ({0} if kind != "card" else set()), kind


def test_the_largest_value_is_taken_and_one_with_a_record_more_is_not() -> None:
    table = new_tables().merchant
    records = (MAX_BYTES - len(NEW_SHARED)) // 14
    largest = NEW_SHARED + record(FRAUD_ADDED, START, 5) * records
    assert fault_of(table, largest) == ""
    assert fault_of(table, largest + record(FRAUD_ADDED, START, 5)) == (
        "it is larger than any entity can be"
    )


def test_changed_values_do_no_harm(tmp_path: Path) -> None:
    """The values are run in a process of its own: compiled code that is led astray ends it."""
    case, environment = tmp_path / "case.json", dict(os.environ)
    if FUZZ_SECONDS >= LONG_S and "NUMBA_BOUNDSCHECK" not in environment:
        environment |= {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path / "kernels")}
    seed = str(np.random.default_rng().integers(2**31)) if FUZZ_SECONDS >= LONG_S else "4"
    done = subprocess.run(
        [
            sys.executable, "-m", "tests.support.stream_features.fuzz_values",
            str(FUZZ_SECONDS), seed, str(case),
        ],
        env=environment, capture_output=True, text=True, timeout=FUZZ_SECONDS + 600, check=False,
    )  # fmt: skip
    sys.stdout.write(done.stdout)
    if done.returncode != 0:
        pytest.fail(
            f"exit {done.returncode} (seed {seed}) at {case.read_text()}: if that is a value that "
            f"must be refused, add it to {Path(__file__).with_name('damaged_values.json')}\n"
            f"{done.stderr[-3_000:]}"
        )
    assert int(done.stdout.split()[0]) > 0


def processed(
    engine: LiveEngine, card_value: bytes | None, merchant_value: bytes | None
) -> LiveResult:
    batch = empty_columns(1)._replace(
        time=np.array([START]), amount=np.array([500]), transaction=np.array([3], np.uint64),
        card=np.array([SUBJECT]), merchant=np.array([OTHER]),
    )  # fmt: skip
    opened = engine.open(batch)
    return engine.process(batch, opened, [card_value, merchant_value])


def test_a_refused_value_leaves_a_new_entity_and_is_replaced() -> None:
    engine = LiveEngine(prefix=b"p:")
    new = processed(engine, None, None)
    refused = processed(engine, b"garbage", b"\1\2")
    assert refused.vectors.tobytes() == new.vectors.tobytes()
    assert refused.cards == new.cards
    assert new.refused == []
    card, merchant = (
        entity_key(b"p:", "card", int(SUBJECT)), entity_key(b"p:", "merchant", int(OTHER)),
    )  # fmt: skip
    assert [(each.kind, each.key, each.value) for each in refused.refused] == [
        ("card", card, b"garbage"), ("merchant", merchant, b"\1\2"),
    ]  # fmt: skip
    assert refused.refused[0].kept_as == b"p:refused:c" + card[3:] == refused_key(b"p:", card)
    [fold] = refused.folds
    assert (fold.key, fold.expected_generation, fold.expected_length) == (merchant, 0x201, 2)
    assert fold.value.startswith(b"\2\2\0\0")
    assert fold.value[4:12] == START.to_bytes(8, "little")


def test_impossible_times_that_can_be_unpacked_can_be_shown() -> None:
    """A step of 6 bytes leads to the year 6,429, which no date can be made of."""
    head = bytes([2, 0, 0]) + 2 * START.to_bytes(8, "little")
    times = START.to_bytes(8, "little") + b"\6" + (2**47).to_bytes(6, "little")
    card = head + times + b"\0" + bytes(2) + bytes(7) + bytes(3)
    state = state_of("card", "c", b"k", card, 1, 7 * DAY)
    assert state.recent[0][0] == START + 2**47
    shown = StringIO()
    Console(file=shown, width=100).print(readable(state, 2))
    assert "2023-11-14 22:13:20 UTC" in shown.getvalue()


def test_many_frauds_known_at_once_leave_the_frauds_of_others_alone() -> None:
    """Lists of marks grow while they are unpacked; three of them once wrote behind the marks."""
    engine = LiveEngine()
    rows = 12
    batch = empty_columns(rows)._replace(
        time=np.full(rows, START), amount=np.full(rows, 500),
        transaction=np.arange(1, rows + 1, dtype=np.uint64),
        card=np.arange(1, rows + 1, dtype=np.uint64),
        merchant=np.arange(1, rows + 1, dtype=np.uint64),
    )  # fmt: skip
    folded = bytes(4) + START.to_bytes(8, "little") + bytes(2) + bytes([15]) + bytes(3)
    columns = b"\0" + b"\1" + bytes(range(1, 16))
    records = b"".join(record(FRAUD_ADDED, START, 100 + number) for number in range(113))
    opened = engine.open(batch)
    values = [folded + columns + records if key[0] == ord("m") else None for key in opened.keys]
    engine.unpack(opened, values)
    table = engine._tables.merchant
    for slot in table.slots[:rows]:
        start = slot[MARK_START]
        held = table.marks[MARK_TRANSACTION, start : start + slot[MARKED]].tolist()
        assert held == [*range(1, 16), *range(100, 213)]
