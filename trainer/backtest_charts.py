"""Charts of the backtest report, as plotly's JSON. Called by `trainer.backtest_report`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import plotly.graph_objects as go

COLOURS: Final = ("#1f5fa8", "#c4581a")
BANDS: Final = ("rgba(31,95,168,0.15)", "rgba(196,88,26,0.15)")
MIX: Final = {"block": "#b3261e", "review": "#e0a030", "approve": "#9bb8d6"}
SHOWN: Final = 12
"""Bars in a chart; the JSON has all."""
HALVES, REFERENCE = "second half against first", "period against training"


def charts(report: dict[str, Any]) -> dict[str, str]:
    """Return name to figure (JSON): roc, pr, cards, mix0.., drift, reasons."""
    contenders = report["contenders"]
    made = {
        "roc": _curves(contenders, "roc", "false positive rate", "recall"),
        "pr": _curves(contenders, "pr", "recall", "precision"),
        "cards": _cards(contenders),
        "drift": _drift(contenders[0]["drift"]["columns"]),
        "reasons": _reasons(contenders),
    }
    for place, one in enumerate(contenders):
        made[f"mix{place}"] = _mix(one["mix"])
    return {name: str(figure.to_json()) for name, figure in made.items()}


def _figure(height: int = 340) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 56, "r": 12, "t": 12, "b": 48},
        font={"family": "system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    return figure


def _curves(contenders: list[dict[str, Any]], name: str, x: str, y: str) -> go.Figure:
    figure = _figure(400)
    for place, one in enumerate(contenders):
        curve = one["ranking"][name]
        figure.add_scatter(
            x=[*curve["x"], *curve["x"][::-1]], y=[*curve["high"], *curve["low"][::-1]],
            fill="toself", fillcolor=BANDS[place], line={"width": 0}, hoverinfo="skip",
            showlegend=False,
        )  # fmt: skip
        figure.add_scatter(
            x=curve["x"], y=curve["y"], name=one["name"], line={"color": COLOURS[place], "width": 2},
            hovertemplate=f"{x} %{{x:.2f}}<br>{y} %{{y:.3f}}<extra></extra>",
        )  # fmt: skip
    if name == "roc":
        figure.add_scatter(
            x=[0, 1], y=[0, 1], line={"color": "#999", "width": 1, "dash": "dot"},
            showlegend=False, hoverinfo="skip",
        )  # fmt: skip
    figure.update_xaxes(title=x, range=[0, 1])
    figure.update_yaxes(title=y, range=[0, 1.02])
    return figure


def _date(day: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)).date().isoformat()


def _cards(contenders: list[dict[str, Any]]) -> go.Figure:
    figure = _figure()
    for place, one in enumerate(contenders):
        cards = one["card_precision"]
        figure.add_scatter(
            x=[_date(day) for day in cards["day"]], y=cards["value"], name=one["name"],
            mode="lines+markers", line={"color": COLOURS[place], "width": 1.5}, marker={"size": 4},
        )  # fmt: skip
    figure.update_yaxes(title="card precision", rangemode="tozero", tickformat=".0%")
    return figure


def _mix(mix: dict[str, list[int]]) -> go.Figure:
    """Shares of REVIEW and BLOCK; APPROVE is the rest, and would hide both."""
    figure = _figure(300)
    total = [
        sum(counts) for counts in zip(mix["approve"], mix["review"], mix["block"], strict=True)
    ]
    for name in ("block", "review"):
        figure.add_bar(
            x=[_date(day) for day in mix["day"]],
            y=[part / whole if whole else 0 for part, whole in zip(mix[name], total, strict=True)],
            customdata=list(zip(mix[name], total, strict=True)), name=name.upper(),
            marker_color=MIX[name],
            hovertemplate="%{x}: %{customdata[0]:,} of %{customdata[1]:,}<extra></extra>",
        )  # fmt: skip
    figure.update_layout(barmode="stack", bargap=0.1)
    figure.update_yaxes(title="share of transactions", tickformat=".1%")
    return figure


def _drift(columns: list[dict[str, Any]]) -> go.Figure:
    shown = columns[:SHOWN][::-1]
    figure = _figure(60 + 30 * len(shown) + 60)
    names = [row["name"] for row in shown]
    for key, title, colour in (("reference", REFERENCE, "#7a9cc4"), ("halves", HALVES, COLOURS[0])):
        if any(row[key] is not None for row in shown):
            figure.add_bar(
                y=names, x=[row[key] for row in shown], orientation="h", name=title,
                marker_color=colour,
            )  # fmt: skip
    for bound in (0.1, 0.25):
        figure.add_vline(x=bound, line={"color": "#b3261e", "width": 1, "dash": "dot"})
    figure.update_layout(barmode="group", bargap=0.25)
    figure.update_xaxes(title="PSI", rangemode="tozero")
    figure.update_yaxes(automargin=True)
    return figure


def _reasons(contenders: list[dict[str, Any]]) -> go.Figure:
    first = list(contenders[0]["reasons"]["named"])[:SHOWN]
    figure = _figure(60 + 30 * max(len(first), 1) + 60)
    for place, one in enumerate(contenders):
        reasons = one["reasons"]
        share = [
            reasons["named"].get(name, 0) / max(reasons["alerts_explained"], 1) for name in first
        ]
        figure.add_bar(
            y=first[::-1], x=share[::-1], orientation="h", name=one["name"],
            marker_color=COLOURS[place],
        )  # fmt: skip
    figure.update_layout(barmode="group", bargap=0.25)
    figure.update_xaxes(title="share of the explained alerts", tickformat=".0%")
    figure.update_yaxes(automargin=True)
    return figure
