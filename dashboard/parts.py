"""What the pages work with. `run.py` makes it for the process, tests make their own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from dashboard.live.collector import Collector
from dashboard.review.case_counts import CaseCounts
from dashboard.review.label_sender import LabelSender
from database.accounts.passwords import Passwords
from database.core.database import Database
from runtime.clock import Clock, SystemClock
from runtime.kafka.model_registry import ModelRegistry
from runtime.metrics import Metrics
from runtime.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Every part of the dashboard. A page that needs another adds a field.

    Args:
        case_counts: the queue's figures, the same that `labels` tells.
        collector: what the live page shows; it need not run.
        labels: what sends verdicts on; None where nothing is sent.
        registry: lends the registry of models to one thread at a time; raises BrokerUnavailable.
    """

    settings: Settings
    database: Database
    registry: Callable[[], AbstractContextManager[ModelRegistry]]
    metrics: Metrics
    collector: Collector
    passwords: Passwords = field(default_factory=Passwords)
    labels: LabelSender | None = None
    case_counts: CaseCounts = field(default_factory=CaseCounts)
    clock: Clock = field(default_factory=SystemClock)


def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


TheParts = Annotated[Parts, Depends(_parts)]
"""How a handler asks for them: `def page(parts: TheParts)`."""
