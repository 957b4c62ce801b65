"""The alerts that `make proof` raises by their fault, made in a running system.

docs/alerts.md names the others; a contract test compares the two.
"""

from __future__ import annotations

from typing import Final

PROVED_BY_FAULT: Final = frozenset(
    {
        "ProcessDown", "ProcessMissing", "ProcessNotReady", "ProcessRestarting", "WatchdogRestart",
        "FilesShort", "CataloguesDiffer",
        "RedisUnreachable", "RedisSlow", "RedisMemoryShort", "KafkaUnreachable",
        "LagGrowing", "LagHigh", "DeadLettersMany", "DecisionsLate", "DecisionsStopped",
        "ScoringDegraded", "NoChampion", "ChampionsDiffer", "ServingRefused",
        "PartitionsContested", "DecisionMixJumped",
        "TrainingFailed", "TrainingOverdue", "CandidateWaits", "ModelRolledBack",
        "ArchiveFailing",
        "GatewayFallbacks", "GatewayErrors", "DatabaseUnreachable", "DecisionsUnstored",
        "VerdictsUnsent",
    }
)  # fmt: skip
