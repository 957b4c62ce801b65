"""From a backtest to its figures (JSON) and to one self-contained HTML page.

The page has no script and loads nothing; its template is report.html.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from schemas.errors import ConfigurationError
from schemas.features import ANOMALY_FEATURE, DAY, NAMES
from scorer.decision.judge import ACTIONS, BLOCK, REVIEW
from trainer.backtest import backtest_metrics
from trainer.backtest.backtest import Backtest, Outcome
from trainer.evaluation.evaluate import require_both_classes

LISTED: Final = 20
"""Transactions in a table of disagreements."""


def figures(data: Backtest, *, cards_a_day: int = 100) -> dict[str, Any]:
    """Return every figure of the backtest, fit for JSON.

    Raises:
        ConfigurationError: the labelled rows are of one class only.
    """
    require_both_classes(data.label[data.labelled] == 1, "judged")
    days = max((int(data.time[-1]) - int(data.time[0])) / DAY, 1.0 / 24)
    report: dict[str, Any] = {
        "period": {
            "from": _moment(data.time[0]),
            "to": _moment(data.time[-1]),
            "days": days,
            "transactions": len(data.rows),
            "labelled": int(data.labelled.sum()),
            "frauds": int((data.label[data.labelled] == 1).sum()),
            "unlabelled": int((data.label < 0).sum()),
            "duplicate_or_late": int(((data.label >= 0) & ~data.labelled).sum()),
            "replayed": data.replayed,
        },
        "contenders": [_contender(data, one, days, cards_a_day) for one in data.outcomes],
    }
    if len(data.outcomes) > 1:
        report["difference"] = _difference(data, *data.outcomes[:2])
    return report


def _contender(data: Backtest, one: Outcome, days: float, cards_a_day: int) -> dict[str, Any]:
    rows = data.labelled
    fraud, score, action = data.label[rows] == 1, one.score[rows], one.action[rows]
    amount, day = data.amount[rows], backtest_metrics.day_of(data.time[rows])
    policy = one.contender.serving.policy
    limits = policy.document.thresholds or one.contender.model.thresholds
    count = np.bincount(one.action, minlength=len(ACTIONS))
    return {
        "name": one.contender.name,
        "model_id": one.contender.model.model_id,
        "policy": policy.version,
        "decisions": dict(zip(ACTIONS, count.tolist(), strict=True)),
        "ranking": backtest_metrics.ranking(score, fraud),
        "decided": {
            "block": backtest_metrics.quality(action == BLOCK, fraud, amount, days),
            "review_or_block": backtest_metrics.quality(action >= REVIEW, fraud, amount, days),
        },
        "at_thresholds": {
            "block": {
                "threshold": limits.block,
                **backtest_metrics.quality(score > limits.block, fraud, amount, days),
            },
            "review": {
                "threshold": limits.review,
                **backtest_metrics.quality(score > limits.review, fraud, amount, days),
            },
        },
        "card_precision": backtest_metrics.card_precision(
            day, data.card[rows], score, fraud, cards_a_day
        ),
        "money": backtest_metrics.money(action, fraud, amount),
        "mix": backtest_metrics.mix_by_day(backtest_metrics.day_of(data.time), one.action),
        "drift": _drift(data, one),
        "rule_hits": dict(one.rule_hits.most_common()),
        "reasons": {
            "alerts_explained": len(one.alerts),
            "named": dict(one.reasons().most_common()),
        },
    }


def _drift(data: Backtest, one: Outcome) -> dict[str, Any]:
    columns: dict[str, npt.NDArray[Any]] = {
        name: data.vectors[:, place] for place, name in enumerate((*NAMES, ANOMALY_FEATURE))
    }
    columns["score"] = one.score[data.sample]
    if one is not data.outcomes[0]:  # the features are the same, the anomaly model is not
        del columns[ANOMALY_FEATURE]
    time = data.time[data.sample]
    middle = int(np.searchsorted(time, (int(time[0]) + int(time[-1])) // 2, side="right"))
    return {
        "rows": len(time),
        "columns": backtest_metrics.drift(columns, middle, one.contender.histograms),
    }


def _difference(data: Backtest, one: Outcome, other: Outcome) -> dict[str, Any]:
    rows = data.labelled
    fraud = data.label[rows] == 1
    table = np.bincount(one.action * 3 + other.action, minlength=9).reshape(3, 3)
    frauds = np.bincount(
        one.action[rows][fraud] * 3 + other.action[rows][fraud], minlength=9
    ).reshape(3, 3)
    apart = np.flatnonzero(one.action != other.action)
    far = np.abs(one.score - other.score)
    by_amount = apart[np.argsort(-data.amount[apart], kind="stable")[:LISTED]]
    by_score = np.argsort(-far, kind="stable")[:LISTED]
    by_score = by_score[far[by_score] > 0]
    return {
        "disagreements": len(apart),
        "decisions": table.tolist(),
        "frauds": frauds.tolist(),
        "ranking": backtest_metrics.paired(one.score[rows], other.score[rows], fraud),
        "by_amount": _listed(data, one, other, by_amount),
        "by_score": _listed(data, one, other, by_score),
    }


def _listed(
    data: Backtest, one: Outcome, other: Outcome, places: npt.NDArray[np.int64]
) -> list[dict[str, Any]]:
    names = ("transaction_id", "card_id", "merchant_id")
    texts = data.table.select(names).take(data.rows[places]).to_pylist()
    labels = {1: "fraud", 0: "genuine", -1: "unknown"}
    return [
        {
            **texts[at],
            "time": _moment(data.time[row]),
            "amount": float(data.amount[row] / 100.0),
            "label": labels[int(data.label[row])],
            "decisions": [ACTIONS[one.action[row]], ACTIONS[other.action[row]]],
            "scores": [float(one.score[row]), float(other.score[row])],
        }
        for at, row in enumerate(places.tolist())
    ]


def _moment(time: Any) -> str:
    return datetime.fromtimestamp(int(time) / 1000.0, UTC).isoformat(timespec="seconds")


def write_html(report: dict[str, Any], path: Path) -> None:
    """Render `figures`' report to one file that needs nothing else.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from trainer.backtest.backtest_charts import charts

    environment = Environment(
        loader=PackageLoader("trainer.backtest", ""), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["percent"] = lambda share: "–" if share is None else f"{share:.1%}"
    environment.filters["small_percent"] = lambda share: "–" if share is None else f"{share:.3%}"
    environment.filters["span"] = lambda ends: (
        "" if ends is None else f"{ends[0]:.1%} to {ends[1]:.1%}"
    )
    environment.filters["whole"] = lambda value: f"{value:,.0f}"
    page = environment.get_template("report.html").render(
        report=report, charts=charts(report), actions=ACTIONS
    )
    try:
        path.write_text(page)
    except OSError as error:
        raise ConfigurationError(f"--html {path}: {error}") from error
