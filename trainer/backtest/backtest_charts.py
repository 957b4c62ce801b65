"""Charts of the backtest report as SVG.

Text stays text, so that the page's own fonts draw it and it can be searched; nothing is loaded.
"""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import matplotlib
from matplotlib import dates
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, FuncFormatter, PercentFormatter

COLOURS: Final = ("#1f5fa8", "#c4581a")
BLOCK, REVIEW, PALE, BOUND = "#b3261e", "#e0a030", "#9bb8d6", "#b3261e"
SHOWN: Final = 12
"""Bars in a chart; the JSON has all."""
WIDTH: Final = 5.6
STYLE: Final[Any] = {
    "svg.fonttype": "none",
    "font.size": 11.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#7b8894",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e8ecf1",
    "legend.frameon": False,
    "legend.fontsize": 10.0,
}
Contenders = list[dict[str, Any]]


def charts(report: dict[str, Any]) -> dict[str, str]:
    """Return name to SVG: roc, pr, cards, mix0, mix1 …, drift, reasons."""
    with matplotlib.rc_context(STYLE):
        return {name: svg(figure) for name, figure in figures(report).items()}


def figures(report: dict[str, Any]) -> dict[str, Figure]:
    """Return the charts as matplotlib's figures."""
    contenders: Contenders = report["contenders"]
    made = {
        "roc": _curves(contenders, "roc", "false positive rate", "recall"),
        "pr": _curves(contenders, "pr", "recall", "precision"),
        "cards": _cards(contenders),
        "drift": _drift(contenders[0]["drift"]["columns"]),
        "reasons": _reasons(contenders),
    }
    highest = max(max(_shares(one["mix"])[2]) for one in contenders)
    for place, one in enumerate(contenders):
        made[f"mix{place}"] = _mix(one["mix"], highest)
    return made


def svg(figure: Figure) -> str:
    """Return a figure as an <svg> element without XML prologue, metadata and links."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)


def _figure(height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def _legend(figure: Figure, axes: Any, names: int) -> None:
    if names > 1:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=1)


def _curves(contenders: Contenders, name: str, x: str, y: str) -> Figure:
    figure, axes = _figure(4.2)
    for one, colour in zip(contenders, COLOURS, strict=False):
        curve = one["ranking"][name]
        axes.fill_between(
            curve["x"], curve["low"], curve["high"], color=colour, alpha=0.18, linewidth=0
        )
        axes.plot(curve["x"], curve["y"], color=colour, linewidth=1.8, label=one["name"])
    axes.set(xlabel=x, ylabel=y, xlim=(0, 1), ylim=(0, 1.02))
    if name == "roc":  # what matters is left of one in a hundred
        rates = contenders[0]["ranking"]["roc"]["x"]
        axes.plot(rates, rates, color="#7b8894", linewidth=1, linestyle=":")
        axes.set(xscale="log", xlim=(rates[0], 1))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{100 * rate:g}%"))
    _legend(figure, axes, len(contenders))
    return figure


def _dates(days: list[int]) -> list[datetime]:
    return [datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in days]


def _by_date(axes: Any) -> None:
    kit: Any = dates  # it has no types
    locator = kit.AutoDateLocator(minticks=3, maxticks=7)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(kit.ConciseDateFormatter(locator))


def _cards(contenders: Contenders) -> Figure:
    figure, axes = _figure(3.4)
    for one, colour in zip(contenders, COLOURS, strict=False):
        cards = one["card_precision"]
        axes.plot(
            _dates(cards["day"]), cards["value"], color=colour, linewidth=1.5, marker="o",
            markersize=3, label=one["name"],
        )  # fmt: skip
    axes.set(ylabel="card precision", ylim=(0, None))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    _by_date(axes)
    _legend(figure, axes, len(contenders))
    return figure


def _shares(mix: dict[str, list[int]]) -> tuple[list[float], list[float], list[float]]:
    """Return the shares of BLOCK, of REVIEW and of both, by day."""
    rows = list(zip(mix["approve"], mix["review"], mix["block"], strict=True))
    block = [blocked / max(sum((a, r, blocked)), 1) for a, r, blocked in rows]
    review = [reviewed / max(sum((a, reviewed, b)), 1) for a, reviewed, b in rows]
    return block, review, [b + r for b, r in zip(block, review, strict=True)]


def _mix(mix: dict[str, list[int]], highest: float) -> Figure:
    """Shares of REVIEW and BLOCK; APPROVE is the rest, and would hide both."""
    figure, axes = _figure(3.2)
    block, review, _ = _shares(mix)
    days = _dates(mix["day"])
    axes.bar(days, block, color=BLOCK, label="BLOCK", width=0.85)
    axes.bar(days, review, bottom=block, color=REVIEW, label="REVIEW", width=0.85)
    axes.set(ylabel="share of transactions", ylim=(0, max(highest * 1.05, 1e-4)))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    _by_date(axes)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return figure


def _bars(names: list[str], series: list[tuple[str, str, list[float]]]) -> tuple[Figure, Any]:
    """Draw horizontal bars, the first name on top; `series` are label, colour and lengths."""
    figure, axes = _figure(1.2 + 0.34 * max(len(names), 1))
    height = 0.8 / len(series)
    for place, (label, colour, lengths) in enumerate(series):
        at = [-row + 0.4 - height * (place + 0.5) for row in range(len(names))]
        axes.barh(at, lengths, height=height, color=colour, label=label)
    axes.set_yticks([-row for row in range(len(names))], names, fontsize=10)
    axes.grid(visible=False, axis="y")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=1)
    return figure, axes


def _drift(columns: list[dict[str, Any]]) -> Figure:
    shown = columns[:SHOWN]
    series = [("second half against first", COLOURS[0], [row["halves"] for row in shown])]
    if any(row["reference"] is not None for row in shown):
        lengths = [row["reference"] or 0.0 for row in shown]
        series.append(("period against training", PALE, lengths))
    figure, axes = _bars([row["name"] for row in shown], series)
    for bound in (0.1, 0.25):
        axes.axvline(bound, color=BOUND, linewidth=1, linestyle=":")
    axes.set(xlabel="PSI, logarithmic", xscale="log", xlim=(0.01, None))
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    return figure


def _reasons(contenders: Contenders) -> Figure:
    names = list(contenders[0]["reasons"]["named"])[:SHOWN]
    series = [
        (one["name"], colour, _named(one["reasons"], names))
        for one, colour in zip(contenders, COLOURS, strict=False)
    ]
    figure, axes = _bars(names, series)
    axes.set(xlabel="share of the explained alerts")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    return figure


def _named(reasons: dict[str, Any], names: list[str]) -> list[float]:
    """Return the share of the explained alerts that names each feature."""
    explained = max(reasons["alerts_explained"], 1)
    return [reasons["named"].get(name, 0) / explained for name in names]
