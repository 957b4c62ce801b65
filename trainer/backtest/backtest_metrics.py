"""Figures of a backtest from arrays: ranking, quality, cards, money, mix, drift. Pure.

Intervals are at 95%. Those of ranking come from a bootstrap over score bins: drawing the rows
again is drawing the bins' counts from a multinomial, which costs the bins and not the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from schemas.features import DAY
from trainer.evaluation.evaluate import histogram

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint8]
BINS: Final = 500
"""Quantiles of the frauds' scores, and as many of all scores, that bound the bins."""
DRAWS: Final = 300
PAIR_BINS: Final = 100
Z: Final = 1.959964
RECALLS: Final = np.linspace(0.0, 1.0, 101)
FALSE_POSITIVE_RATES: Final = np.logspace(-4.0, 0.0, 101)
"""What matters in service is left of one in a hundred."""
MIN_SHARE: Final = 1e-4
"""An empty bin counts as this share: the logarithm of PSI needs more than nothing."""


def bin_counts(score: Floats, fraud: Bools, bins: int = BINS) -> Ints:
    """Return the genuine and the fraudulent rows of each score bin, int64[2, b], ascending."""
    place, width = bin_places(score, fraud, bins)
    return np.bincount(place + width * fraud, minlength=2 * width).reshape(2, width)


def bin_places(score: Floats, fraud: Bools, bins: int) -> tuple[Ints, int]:
    """Return the bin of each row and the number of bins; a bin's scores are alike or close."""
    levels = np.linspace(0.0, 1.0, bins + 1)
    edges = np.unique(
        np.concatenate([np.quantile(score[fraud], levels), np.quantile(score, levels)])
    )
    return np.searchsorted(edges, score), len(edges) + 1


def auc(counts: npt.NDArray[Any]) -> Floats:
    """Return the area under the ROC curve of counts [..., 2, b]; ties count half.

    >>> float(auc(np.array([[2, 1, 0], [0, 1, 1]])))  # (1 * 2.5 + 1 * 3) / (3 * 2)
    0.9166666666666666
    """
    genuine, fraud = counts[..., 0, :].astype(np.float64), counts[..., 1, :].astype(np.float64)
    below = np.cumsum(genuine, axis=-1) - genuine / 2.0
    pairs = genuine.sum(axis=-1) * fraud.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        area: Floats = (below * fraud).sum(axis=-1) / pairs
    return area


def average_precision(counts: npt.NDArray[Any]) -> Floats:
    """Return the mean precision over the frauds of counts [..., 2, b], as scikit-learn does.

    >>> float(average_precision(np.array([[2, 1, 0], [0, 1, 1]])))  # (1 + 2 / 3) / 2
    0.8333333333333333
    """
    genuine, fraud = counts[..., 0, ::-1], counts[..., 1, ::-1].astype(np.float64)
    caught = np.cumsum(fraud, axis=-1)
    alerts = caught + np.cumsum(genuine, axis=-1)
    precision = caught / np.maximum(alerts, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Floats = (precision * fraud).sum(axis=-1) / caught[..., -1]
    return mean


def resampled(counts: Ints, draws: int = DRAWS, seed: int = 7) -> Ints:
    """Return `counts` as they would be if the rows were drawn anew, int64[draws, *shape]."""
    total = int(counts.sum())
    flat = counts.ravel() / total
    drawn = np.random.default_rng(seed).multinomial(total, flat, size=draws)
    return drawn.reshape(draws, *counts.shape)


def interval(values: Floats) -> list[float]:
    """Return the 2.5 and 97.5% quantiles of bootstrap values, without those that are NaN."""
    low, high = np.nanquantile(values, [0.025, 0.975])
    return [float(low), float(high)]


def ranking(score: Floats, fraud: Bools) -> dict[str, Any]:
    """Return AUC and average precision (exact) with intervals, and both curves with bands.

    Needs both classes. A curve has `x`, `y`, `low` and `high`, each of 101 points.
    """
    _, place = np.unique(score, return_inverse=True)
    exact = np.bincount(2 * place + fraud, minlength=2 * (place.max() + 1)).reshape(-1, 2).T
    counts = bin_counts(score, fraud)
    drawn = resampled(counts)
    return {
        "auc": float(auc(exact)),
        "auc_interval": interval(auc(drawn)),
        "average_precision": float(average_precision(exact)),
        "average_precision_interval": interval(average_precision(drawn)),
        "roc": _band(FALSE_POSITIVE_RATES, counts, drawn, _roc),
        "pr": _band(RECALLS, counts, drawn, _pr),
    }


def _band(x: Floats, counts: Ints, drawn: Ints, curve: Any) -> dict[str, list[float]]:
    several = np.array([curve(one) for one in drawn])
    low, high = np.quantile(several, [0.025, 0.975], axis=0)
    return {
        "x": x.tolist(),
        "y": curve(counts).tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
    }


def _roc(counts: Ints) -> Floats:
    genuine, fraud = (np.concatenate([[0], np.cumsum(part[::-1])]) for part in counts)
    x, y = genuine / max(genuine[-1], 1), fraud / max(fraud[-1], 1)
    recall: Floats = np.interp(FALSE_POSITIVE_RATES, x, y)
    return recall


def _pr(counts: Ints) -> Floats:
    genuine, fraud = (np.cumsum(part[::-1]) for part in counts)
    precision, recall = fraud / np.maximum(genuine + fraud, 1), fraud / max(fraud[-1], 1)
    first = np.concatenate([[True], np.diff(recall) > 0]) & (fraud > 0)
    at_recall: Floats = np.interp(RECALLS, recall[first], precision[first])
    return at_recall


def proportion(hits: int, of: int) -> dict[str, Any]:
    """Return hits / of with Wilson's interval; None if there is nothing to divide by.

    >>> proportion(8, 10)["value"], [round(x, 3) for x in proportion(8, 10)["interval"]]
    (0.8, [0.49, 0.943])
    """
    if of == 0:
        return {"value": None, "interval": None, "hits": hits, "of": of}
    share, z2 = hits / of, Z * Z
    centre, spread = (
        share + z2 / (2 * of),
        Z * np.sqrt(share * (1 - share) / of + z2 / (4 * of * of)),
    )
    low, high = (centre - spread) / (1 + z2 / of), (centre + spread) / (1 + z2 / of)
    return {
        "value": share,
        "interval": [max(0.0, float(low)), min(1.0, float(high))],
        "hits": hits,
        "of": of,
    }


def quality(flagged: Bools, fraud: Bools, amount: Ints, days: float) -> dict[str, Any]:
    """Return precision, recall and volume of the rows `flagged` among labelled ones."""
    hits = int((flagged & fraud).sum())
    lost = int(amount[fraud].sum())
    return {
        "precision": proportion(hits, int(flagged.sum())),
        "recall": proportion(hits, int(fraud.sum())),
        "recall_by_amount": float(amount[flagged & fraud].sum() / lost) if lost else None,
        "flagged_a_day": float(flagged.sum() / days),
        "false_positive_rate": proportion(int((flagged & ~fraud).sum()), int((~fraud).sum())),
    }


def money(action: Codes, fraud: Bools, amount: Ints) -> dict[str, float]:
    """Return amounts in major units: saved, missed and insulted. 0 APPROVE, 1 REVIEW, 2 BLOCK."""

    def total(rows: Bools) -> float:
        return float(amount[rows].sum() / 100.0)

    return {
        "fraud": total(fraud),
        "saved_by_block": total(fraud & (action == 2)),
        "saved_by_review": total(fraud & (action == 1)),
        "missed": total(fraud & (action == 0)),
        "insulted_by_block": total(~fraud & (action == 2)),
        "delayed_by_review": total(~fraud & (action == 1)),
        "customers_blocked": float((~fraud & (action == 2)).sum()),
        "customers_reviewed": float((~fraud & (action == 1)).sum()),
    }


def card_precision(
    day: Ints, card: npt.NDArray[Any], score: Floats, fraud: Bools, k: int
) -> dict[str, Any]:
    """Return the share of compromised cards among the k of each day with the highest scores.

    Rows in time order. A card that was caught is not looked at again on later days, as in the
    Fraud Detection Handbook. A day with fewer than k cards is divided by its cards. The interval
    is a bootstrap over days.
    """
    caught: npt.NDArray[Any] = np.zeros(0, card.dtype)
    days, found = [], []
    bounds = np.flatnonzero(np.diff(day, prepend=day[:1] - 1, append=day[-1:] + 1))
    for first, last in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        cards, place = np.unique(card[first:last], return_inverse=True)
        highest = np.full(len(cards), -np.inf)
        np.maximum.at(highest, place, score[first:last])
        bad = np.bincount(place, fraud[first:last], len(cards)) > 0
        new = ~np.isin(cards, caught)
        cards, highest, bad = cards[new], highest[new], bad[new]
        top = np.argsort(-highest, kind="stable")[:k]
        if len(top):
            days.append(int(day[first]))
            found.append(float(bad[top].mean()))
        caught = np.concatenate([caught, cards[top][bad[top]]])
    values = np.array(found)
    draw = np.random.default_rng(7).integers(0, len(values), (DRAWS, len(values)))
    return {
        "k": k,
        "mean": float(values.mean()),
        "interval": interval(values[draw].mean(axis=1)),
        "day": days,
        "value": found,
        "cards_caught": len(caught),
    }


def mix_by_day(day: Ints, action: Codes) -> dict[str, list[int]]:
    """Return the decisions of each day; `day` counts from the epoch and ascends."""
    first = int(day[0])
    width = int(day[-1]) - first + 1
    counts = np.bincount((day - first) * 3 + action, minlength=3 * width).reshape(width, 3)
    names = ("approve", "review", "block")
    mix = {name: counts[:, code].tolist() for code, name in enumerate(names)}
    return {"day": list(range(first, first + width)), **mix}


def psi(expected: Sequence[float], actual: Sequence[float]) -> float:
    """Return the population stability index of two histograms over the same bins.

    >>> round(psi([50, 50], [25, 75]), 4)  # .25 ln(.5 / .25) - .25 ln(.5 / .75)
    0.2747
    """
    a, b = np.asarray(expected, np.float64), np.asarray(actual, np.float64)
    a, b = (np.maximum(x / max(x.sum(), 1.0), MIN_SHARE) for x in (a, b))
    return float(((a - b) * np.log(a / b)).sum())


def with_missing(values: npt.NDArray[Any], edges: Sequence[float]) -> list[int]:
    """Return how many values lie in each of the edges + 1 bins, and how many are missing."""
    finite = values[np.isfinite(values)]
    counts = np.bincount(np.searchsorted(edges, finite, side="left"), minlength=len(edges) + 1)
    return [*counts.tolist(), len(values) - len(finite)]


def drift(
    columns: Mapping[str, npt.NDArray[Any]], middle: int, reference: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return PSI of each column, the largest first: between its halves and against `reference`.

    `columns` in time order, all of one length; the second half starts at row `middle`. `reference`
    are a bundle's histograms; None where it has none.
    """
    rows = []
    for name, values in columns.items():
        own = histogram(values[:middle])
        halves = psi([*own["counts"], own["missing"]], with_missing(values[middle:], own["edges"]))
        against = None
        if name in reference and sum(reference[name]["counts"]) + reference[name]["missing"] > 0:
            known = reference[name]
            actual = with_missing(values, known["edges"])
            against = psi([*known["counts"], known["missing"]], actual)
        rows.append(
            {
                "name": name,
                "halves": halves,
                "reference": against,
                "missing": float(np.mean(~np.isfinite(values))),
            }
        )
    return sorted(rows, key=lambda row: -max(row["halves"], row["reference"] or 0.0))


def paired(score: Floats, other: Floats, fraud: Bools) -> dict[str, Any]:
    """Return by how much `other` ranks better than `score`, with a paired bootstrap's intervals."""
    place, width = bin_places(score, fraud, PAIR_BINS)
    second, other_width = bin_places(other, fraud, PAIR_BINS)
    cells, count = np.unique((place * other_width + second) * 2 + fraud, return_counts=True)
    drawn = resampled(count)
    own = _marginals(drawn, (cells // 2 // other_width) + width * (cells % 2), width)
    new = _marginals(drawn, (cells // 2 % other_width) + other_width * (cells % 2), other_width)
    return {
        "auc": interval(auc(new) - auc(own)),
        "average_precision": interval(average_precision(new) - average_precision(own)),
    }


def _marginals(drawn: Ints, place: Ints, width: int) -> npt.NDArray[Any]:
    counts = [np.bincount(place, one, 2 * width).reshape(2, width) for one in drawn]
    return np.array(counts)


def day_of(time: Ints) -> Ints:
    """Return days since the epoch (UTC) of times in ms."""
    return time // DAY
