"""Candidates advance every minute, and MLflow's alias follows the champion; on a thread."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import structlog

from runtime.clock import Clock
from runtime.kafka.model_registry import open_registry
from runtime.metrics import Metrics
from runtime.settings import Settings
from schemas.errors import FraudError
from trainer.archive.delta_tables import Archive
from trainer.registry.advance import AdvanceRules
from trainer.registry.advancer import EVERY_S, Advancer, ArchivedDecisions
from trainer.registry.champion_alias import ChampionAlias

log = structlog.get_logger(__name__)
FLUSHES_BEHIND = 4
"""A decision is in the archive at the latest after so many times FRAUD_ARCHIVE_FLUSH_AFTER."""


@dataclass(frozen=True, slots=True)
class Advancing:
    """Advances the candidates until told to stop; what fails is tried again in the next minute.

    Args:
        archive_url: where the decisions of a canary are counted.
        alias: follows the champion; None without an MLflow server.
    """

    settings: Settings
    rules: AdvanceRules
    archive_url: str
    clock: Clock
    metrics: Metrics
    alias: ChampionAlias | None

    def run(self, ended: threading.Event) -> None:
        """Work until `ended` is set. Blocks."""
        settings = self.settings
        decisions = ArchivedDecisions(
            Archive.from_settings(settings, self.archive_url),
            self.clock,
            behind_ms=FLUSHES_BEHIND * settings.archive_flush_after.ms,
        )
        while not ended.is_set():
            try:
                with open_registry(settings) as registry:
                    advancer = Advancer(
                        registry,
                        self.rules,
                        decisions.made,
                        decisions.lately,
                        approval=settings.approval,
                        clock=self.clock,
                        metrics=self.metrics,
                    )
                    while True:
                        advancer.due()
                        if self.alias is not None:
                            self.alias.follow(registry.states())
                        if ended.wait(EVERY_S):
                            return
            except FraudError as error:
                log.warning("candidates stay where they are for now", reason=str(error))
                ended.wait(EVERY_S)
