"""How much immature rows count: by what is known of them, and by who said so."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from trainer.dataset.immature_labels import immature_weights

CUTOFF, MATURE = 2_000, 1_000


def weights(
    rows: list[tuple[int, int, bool, int, bool]], *, old: int = 100, old_settled: int = 0
) -> npt.NDArray[np.float32]:
    """Return the weights of rows (age, card, fraud, label time, settled).

    Before them stand `old` mature frauds, reported after 10 or 100, and `old_settled` that were
    settled after 1.
    """
    time = np.arange(old + old_settled)
    delay = np.where(np.arange(len(time)) < old, np.where(time % 2 == 0, 10, 100), 1)
    immature = np.array([(CUTOFF - age, card, fraud, at, by) for age, card, fraud, at, by in rows])
    return immature_weights(
        np.concatenate([time, immature[:, 0]]),
        np.concatenate([10_000 + time, immature[:, 1]]).astype(np.uint64),
        np.concatenate([time >= 0, immature[:, 2] > 0]),
        np.concatenate([time + delay, immature[:, 3]]),
        np.concatenate([np.arange(len(time)) >= old, immature[:, 4] > 0]),
        mature_ms=MATURE,
        cutoff_ms=CUTOFF,
    )[len(time) :]


def test_a_reported_fraud_stands_for_those_not_yet_reported() -> None:
    found = weights(
        [(40, 1, True, 1_990, False), (200, 2, True, 1_990, False), (5, 3, True, 1_999, False)]
    )
    assert found.tolist() == [2.0, 1.0, 3.0]  # half, all and none had come at such an age


def test_a_settled_alert_stands_for_itself_alone() -> None:
    rows = [(40, 1, True, 1_990, True), (40, 2, False, 1_990, True), (5, 3, False, 1_999, False)]
    assert weights(rows).tolist() == [1.0, 1.0, 1.0]
    quick = [(5, 4, True, 1_999, False)]
    assert weights(quick, old_settled=500).tolist() == [3.0]  # settling says nothing of reports


def test_unlabelled_rows_count_as_genuine_unless_their_card_has_a_young_fraud() -> None:
    rows = [(200, 1, False, -1, False), (40, 2, False, -1, False), (5, 3, False, -1, False)]
    assert weights(rows).tolist() == [1.0, 1.0, 0.0]
    beside = [*rows[:2], (41, 2, True, 1_990, False)]
    assert weights(beside).tolist() == [1.0, 0.0, 2.0]


def test_a_card_with_a_fraud_of_long_ago_is_like_any_other() -> None:
    assert weights([(200, 10_000, False, -1, False)]).tolist() == [1.0]


def test_delays_of_fewer_than_fifty_frauds_are_not_believed() -> None:
    rows = [(40, 1, True, 1_990, False), (40, 2, False, -1, False)]
    assert weights(rows, old=50).tolist() == [2.0, 1.0]
    assert weights(rows, old=49).tolist() == [3.0, 0.0]
    assert weights(rows, old=48, old_settled=2)[0] == pytest.approx(50 / 26)
