"""The demo's part of the live view: model, policy, lag, labels, the world's clock, new blocks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from loadtest.deploy.exposition import Series, label_values, read_metrics, total
from loadtest.measure.watch import RunWatch
from loadtest.traffic.traffic import Traffic
from schemas.currency import amount

METRICS_EVERY_S: Final = 2.0
REASONS: Final = 2


class DemoDetails:
    """`ViewDetails` that reads the services' metrics every two seconds."""

    def __init__(self, watch: RunWatch) -> None:
        self._watch = watch
        self._ports: Mapping[str, int] = {}
        self._metrics: Mapping[Series, float] = {}
        self._asked = 0.0
        self._printed = 0

    def follow(self, ports: Mapping[str, int]) -> None:
        """Read the metrics of the services with these health ports from now on."""
        self._ports = ports

    def panel(self, traffic: Traffic) -> RenderableType:
        """Return the state of the services and the newest blocks."""
        self._refresh()
        blocks = Table(expand=True, box=None, header_style="bold red")
        for heading in ("newest blocks", "amount", "score", "why"):
            blocks.add_column(heading, no_wrap=heading != "why", overflow="ellipsis")
        for record in self._watch.newest:
            score = "" if record["score"] is None else f"{record['score']:.3f}"
            where = f"{record['card_id']} at {record['merchant_id']}"
            blocks.add_row(where, _amount(record), score, "; ".join(why(record)))
        return Group(Text(self._state(traffic), style="dim"), blocks)

    def lines(self) -> list[str]:
        """Return the blocks that are new since the last call."""
        new = min(self._watch.blocks - self._printed, len(self._watch.newest))
        self._printed = self._watch.blocks
        return [
            f"BLOCK {record['card_id']} at {record['merchant_id']}, {_amount(record)}: "
            f"{'; '.join(why(record))}"
            for record in list(self._watch.newest)[:new][::-1]
        ]

    def _state(self, traffic: Traffic) -> str:
        model = label_values(self._metrics, "scorer", "fraud_model_info", "model_id")
        policy = label_values(self._metrics, "scorer", "fraud_policy_info", "version")
        lag = {kind: total(self._metrics, kind, "fraud_lag") for kind in ("stream", "scorer")}
        applied = total(self._metrics, "stream", "fraud_labels_applied_total")
        world = datetime.fromtimestamp(traffic.event_time / 1000, UTC).strftime("%Y-%m-%d %H:%M")
        return (
            f"model {', '.join(model) or 'none yet'}   policy {', '.join(policy) or '-'}   "
            f"lag stream {lag['stream']:,.0f}, scorer {lag['scorer']:,.0f}   "
            f"labels {traffic.labels:,} sent, {applied:,.0f} applied   world's clock {world}"
        )

    def _refresh(self) -> None:
        now = time.monotonic()
        if now - self._asked >= METRICS_EVERY_S:
            self._asked = now
            self._metrics = read_metrics(self._ports, timeout_s=0.2)


def why(record: Mapping[str, Any]) -> list[str]:
    """Return the first reasons of a decision in plain language, or else the rules that matched."""
    texts = [str(reason["text"]) for reason in record["reasons"]]
    return (texts or [str(rule) for rule in record["rule_hits"]])[:REASONS]


def _amount(record: Mapping[str, Any]) -> str:
    return amount(record["amount"], record["currency"])
