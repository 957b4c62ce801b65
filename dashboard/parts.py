"""The objects that the pages work with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from dashboard.dead_letters.redrive import Redrive
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
class DashboardParts:
    """The objects that the pages share; a page that needs another one adds a field.

    Args:
        case_counts: counts of the review queue; give `labels` the same object.
        collector: the state of the live page; it need not be running.
        labels: sends verdicts to Kafka; None to send nothing.
        redrive: shows dead letters and sends their messages again.
        registry: lends the model registry to one thread at a time; raises BrokerUnavailable.
    """

    settings: Settings
    database: Database
    redrive: Redrive
    registry: Callable[[], AbstractContextManager[ModelRegistry]]
    metrics: Metrics
    collector: Collector
    passwords: Passwords = field(default_factory=Passwords)
    labels: LabelSender | None = None
    case_counts: CaseCounts = field(default_factory=CaseCounts)
    clock: Clock = field(default_factory=SystemClock)


def _parts(request: Request) -> DashboardParts:
    parts: DashboardParts = request.app.state.parts
    return parts


InjectedParts = Annotated[DashboardParts, Depends(_parts)]
"""Type of a handler's argument for them: `def page(parts: InjectedParts)`."""
