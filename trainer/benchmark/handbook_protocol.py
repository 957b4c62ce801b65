"""Protocol of the Fraud Detection Handbook: folds, removed customers, card precision. Pure.

Source: Le Borgne, Siblini, Lebichot, Bontempi, "Reproducible Machine Learning for Credit Card Fraud
Detection - Practical Handbook", 2022, chapters 3 (get_train_test_set), 4 (card_precision_top_k) and
5 (prequential validation).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

from schemas.features import DAY

STARTS: Final = (date(2018, 8, 15), date(2018, 8, 8), date(2018, 8, 1), date(2018, 7, 25))
"""First days of the four training weeks."""
TRAIN_DAYS: Final = 7
DELAY_DAYS: Final = 7
TEST_DAYS: Final = 7
TOP_CARDS: Final = 100
"""Cards that can be looked into on a day."""

METRICS: Final = ("auc", "ap", "cardp100")
"""Of a fold: AUC ROC, average precision, card precision at `TOP_CARDS`."""

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class HandbookFold:
    """Row numbers (int64, ascending) of one fold; `day` (int64) is the test day 0-6 of each `test`.

    `week` are the seven days of training, `history` is everything up to their end. `first_ms` is
    when the training week begins, `test_ms` when the test week does.
    """

    start: date
    first_ms: int
    test_ms: int
    week: Rows
    history: Rows
    test: Rows
    day: Rows


def make_fold(
    start: date,
    time: npt.NDArray[np.int64],
    card: npt.NDArray[Any],
    fraud: npt.NDArray[np.bool_],
) -> HandbookFold:
    """Return the fold whose training week begins at midnight UTC of `start`.

    A customer with a fraud in the training week is in no test day. One with a fraud on day
    `start + 7 + d - 1` is out from test day d on: that fraud is known by then.

    Args:
        time: int64[n], event times in ms, ascending.
        card: customer or card of each transaction.
        fraud: bool[n].
    """
    first = round(datetime(start.year, start.month, start.day, tzinfo=UTC).timestamp() * 1000)

    def days(begin: int, end: int) -> Rows:
        edges = np.searchsorted(time, [first + begin * DAY, first + end * DAY])
        return np.arange(edges[0], edges[1])

    week = days(0, TRAIN_DAYS)
    known = np.unique(card[week][fraud[week]])
    tests = []
    for day in range(TEST_DAYS):
        learned = days(TRAIN_DAYS + day - 1, TRAIN_DAYS + day)
        known = np.union1d(known, card[learned][fraud[learned]])
        rows = days(TRAIN_DAYS + DELAY_DAYS + day, TRAIN_DAYS + DELAY_DAYS + day + 1)
        tests.append(rows[~np.isin(card[rows], known)])
    day_of = np.repeat(np.arange(TEST_DAYS), [len(rows) for rows in tests])
    return HandbookFold(
        start,
        first_ms=first,
        test_ms=first + (TRAIN_DAYS + DELAY_DAYS) * DAY,
        week=week,
        history=np.arange(np.searchsorted(time, first + TRAIN_DAYS * DAY)),
        test=np.concatenate(tests),
        day=day_of,
    )


def card_precision(
    score: Floats,
    card: npt.NDArray[Any],
    fraud: npt.NDArray[np.bool_],
    day: Rows,
    *,
    top: int = TOP_CARDS,
) -> float:
    """Return the mean over days of the share of frauds' cards among the `top` of that day.

    A card ranks by its highest score of the day. A card that was caught (in the top, with a fraud
    that day) is not looked at again on later days.
    """
    caught = np.zeros(0, card.dtype)
    precisions = []
    for one in np.unique(day):
        rows = np.flatnonzero((day == one) & ~np.isin(card, caught))
        cards, place = np.unique(card[rows], return_inverse=True)
        highest = np.full(len(cards), -np.inf)
        np.maximum.at(highest, place, score[rows])
        defrauded = np.zeros(len(cards), np.bool_)
        np.logical_or.at(defrauded, place, fraud[rows])
        first = np.argsort(-highest, kind="stable")[:top]
        found = cards[first][defrauded[first]]
        precisions.append(len(found) / top)
        caught = np.concatenate([caught, found])
    return float(np.mean(precisions))


def fold_metrics(
    score: Floats, card: npt.NDArray[Any], fraud: npt.NDArray[np.bool_], day: Rows
) -> dict[str, float]:
    """Return the `METRICS` of one fold's test rows, which have both classes."""
    values = (
        roc_auc_score(fraud, score),
        average_precision_score(fraud, score),
        card_precision(score, card, fraud, day),
    )
    return {name: float(value) for name, value in zip(METRICS, values, strict=True)}
