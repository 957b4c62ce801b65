"""From vectors to encoded decisions: models, policy and reasons. Pure.

One `Serving` judges a whole batch: models and policy change only between batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.codec.decisions import encode_decisions, explain
from schemas.codec.vectors import DecodedVectors
from schemas.records import Reason
from scorer.decision.judge import (
    ACTIONS,
    APPROVE,
    ROLES,
    Canary,
    Codes,
    Hits,
    Scores,
    Serving,
    judge,
)
from scorer.decision.reasons import feature_reasons, hit_reason
from scorer.model.bundle import Thresholds

NO_MODEL, UNKNOWN_FINGERPRINT = "no_model", "unknown_fingerprint"


@dataclass(slots=True)
class Decided:
    """The decisions on n vectors: encoded messages, and the figures that become metrics."""

    messages: list[bytes]
    action: Codes
    role: Codes
    degraded: dict[str, int]
    rule_hits: dict[str, int]


def decide(vectors: DecodedVectors, serving: Serving, decided_at: int) -> Decided:
    """Judge n vectors; `decided_at` is in µs since the epoch. No vector makes it raise."""
    judged = judge(vectors, serving)
    action, scores, hits = judged.action, judged.scores, judged.hits
    degraded = _degraded(vectors, scores)
    explanations = _explanations(action, scores, hits, degraded)
    messages = encode_decisions(
        vectors,
        action=action,
        score=scores.score,
        anomaly=scores.anomaly,
        model=scores.model,
        model_ids=[model.model_id for model in scores.models],
        role=scores.role,
        policy_version=serving.policy.version,
        explanations=explanations,
        decided_at=decided_at,
        shadows=scores.shadows,
    )
    counts: dict[str, int] = {}
    for found in hits.values():
        for hit in found:
            code = hit_reason(hit)["code"]
            counts[code] = counts.get(code, 0) + 1
    by_reason: dict[str, int] = {}
    for reason in degraded.values():
        by_reason[reason] = by_reason.get(reason, 0) + 1
    return Decided(messages, action, scores.role, by_reason, counts)


def _degraded(vectors: DecodedVectors, scores: Scores) -> dict[int, str]:
    """Return the reason for each row that no model scored."""
    if bool((scores.model >= 0).all()):
        return {}
    known = vectors.known.tolist()
    return {
        row: NO_MODEL if known[row] else UNKNOWN_FINGERPRINT
        for row in np.flatnonzero(scores.model < 0).tolist()
    }


def _explanations(
    action: Codes,
    scores: Scores,
    hits: Hits,
    degraded: dict[int, str],
) -> dict[int, bytes]:
    """Return the explanations of rows that were not approved, hit a rule, or are degraded."""
    wanted = set(degraded) | hits.keys()
    wanted.update(np.flatnonzero(action != APPROVE).tolist())
    reasons = _feature_reasons(action, scores)
    explanations = {}
    for row in wanted:
        found = hits.get(row, [])
        named: list[Reason] = [hit_reason(hit) for hit in found] if action[row] else []
        explanations[row] = explain(
            degraded.get(row),
            [hit_reason(hit)["code"] for hit in found],
            named + reasons.get(row, []),
        )
    return explanations


def _feature_reasons(action: Codes, scores: Scores) -> dict[int, list[Reason]]:
    reasons: dict[int, list[Reason]] = {}
    for index, model in enumerate(scores.models):
        rows = np.flatnonzero((scores.model == index) & (action != APPROVE))
        if len(rows) == 0:
            continue
        inputs = scores.inputs[rows]
        added = model.contributions(inputs)
        for place, row in enumerate(rows.tolist()):
            reasons[row] = feature_reasons(inputs[place], added[place])
    return reasons


__all__ = ["ACTIONS", "ROLES", "Canary", "Decided", "Serving", "Thresholds", "decide"]
