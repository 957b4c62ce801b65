"""From vectors to decisions: models, policy, reasons. Pure; `scorer.service` calls it once a batch.

One batch is judged by one `Serving`: models and policy change only between batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from schemas.batch_scoring import DecodedVectors, encode_decisions, explain
from schemas.columns import CHANNELS
from schemas.features import NAMES
from schemas.records import Reason
from scorer.model import Model, Thresholds
from scorer.policy import Rule
from scorer.policy_document import DEFAULT_POLICY, TEXT_FIELDS, ListPart, Policy
from scorer.reasons import feature_reasons, hit_reason

APPROVE, REVIEW, BLOCK = range(3)
ACTIONS: Final = ("APPROVE", "REVIEW", "BLOCK")
NO_ROLE, CHAMPION, CANARY = range(3)
ROLES: Final = ("NONE", "CHAMPION", "CANARY")
NO_MODEL, UNKNOWN_FINGERPRINT = "no_model", "unknown_fingerprint"
Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Canary:
    """A model that decides for `share` of the cards."""

    model: Model
    share: float


@dataclass(frozen=True, slots=True)
class Serving:
    """What decides now. Models first in `canaries` take their cards first."""

    policy: Policy = DEFAULT_POLICY
    champion: Model | None = None
    canaries: tuple[Canary, ...] = ()
    shadows: tuple[Model, ...] = ()


@dataclass(slots=True)
class Decided:
    """Decisions of n vectors: encoded messages, and what the metrics count."""

    messages: list[bytes]
    action: Codes
    role: Codes
    degraded: dict[str, int]
    rule_hits: dict[str, int]


@dataclass(slots=True)
class _Scores:
    """Scores of a batch; NaN where no model could judge. `models` is indexed by `model`."""

    score: Floats
    anomaly: Floats
    model: npt.NDArray[np.int64]
    role: Codes
    inputs: npt.NDArray[np.float32]
    models: list[Model] = field(default_factory=list)
    shadows: list[tuple[str, Floats]] = field(default_factory=list)


class Columns(Mapping[str, Any]):
    """The batch as the rules see it; a column is made when a rule first asks for it."""

    def __init__(self, vectors: DecodedVectors, scores: _Scores) -> None:
        self._vectors, self._scores = vectors, scores
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """Return shape (n,): float32 features, float64 scores, texts ("" if missing)."""
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Any:
        if name == "score":
            return self._scores.score
        if name == "anomaly_score":
            return self._scores.anomaly
        if name == "channel":
            return np.array(CHANNELS)[self._vectors.channel]
        if name in TEXT_FIELDS:
            return np.array([text or "" for text in self._vectors.texts(name)], np.str_)
        return self._vectors.matrix[:, NAMES.index(name)]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names made so far."""
        return iter(self._made)

    def __len__(self) -> int:
        """Number of columns made so far."""
        return len(self._made)


def decide(vectors: DecodedVectors, serving: Serving, decided_at: int) -> Decided:
    """Judge n vectors; `decided_at` in µs since the epoch. Never raises for a vector."""
    rows = len(vectors)
    scores = _score(vectors, serving)
    columns = Columns(vectors, scores)
    policy = serving.policy
    hits: list[list[Rule | ListPart]] = [[] for _ in range(rows)] if _judges(policy) else []
    action = _by_model(scores, columns, policy, vectors.known, rows)
    action = _by_rules(action, columns, policy, hits, rows)
    _by_lists(action, vectors, policy, hits)
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
        policy_version=policy.version,
        explanations=explanations,
        decided_at=decided_at,
        shadows=scores.shadows,
    )
    counts: dict[str, int] = {}
    for found in hits:
        for hit in found:
            code = hit_reason(hit)["code"]
            counts[code] = counts.get(code, 0) + 1
    by_reason: dict[str, int] = {}
    for reason in degraded.values():
        by_reason[reason] = by_reason.get(reason, 0) + 1
    return Decided(messages, action, scores.role, by_reason, counts)


def _judges(policy: Policy) -> bool:
    return bool(policy.rules or policy.lists)


def _score(vectors: DecodedVectors, serving: Serving) -> _Scores:
    rows = len(vectors)
    scores = _Scores(
        np.full(rows, np.nan),
        np.full(rows, np.nan),
        np.full(rows, -1, np.int64),
        np.zeros(rows, np.uint8),
        np.empty((0, 0), np.float32),
    )
    if serving.champion is None and not serving.canaries:
        return scores
    whole = bool(vectors.known.all())
    todo = np.arange(rows) if whole else np.flatnonzero(vectors.known)
    for model, role, mine in _shares(vectors, serving, todo):
        if len(mine) == 0:
            continue
        inputs = model.inputs(vectors.matrix if len(mine) == rows else vectors.matrix[mine])
        if len(mine) == rows:
            scores.inputs = inputs
        else:
            if len(scores.inputs) == 0:
                scores.inputs = np.full((rows, inputs.shape[1]), np.nan, np.float32)
            scores.inputs[mine] = inputs
        scores.score[mine] = model.score(inputs)
        scores.anomaly[mine] = inputs[:, -1]
        scores.model[mine] = len(scores.models)
        scores.role[mine] = role
        scores.models.append(model)
    if serving.shadows:
        _watch(scores, serving.shadows, vectors.matrix if whole else vectors.matrix[todo], todo)
    return scores


def _watch(
    scores: _Scores,
    shadows: tuple[Model, ...],
    matrix: npt.NDArray[np.float32],
    todo: npt.NDArray[np.int64],
) -> None:
    """Score `matrix`, the rows `todo`, by every shadow; one copy of it serves all of them."""
    inputs = shadows[0].inputs(matrix)
    for place, shadow in enumerate(shadows):
        if place:
            shadow.renew(inputs)
        own = shadow.score(inputs)
        if len(todo) < len(scores.score):
            everywhere = np.full(len(scores.score), np.nan)
            everywhere[todo] = own
            own = everywhere
        scores.shadows.append((shadow.model_id, own))


def _shares(
    vectors: DecodedVectors, serving: Serving, todo: npt.NDArray[np.int64]
) -> Iterator[tuple[Model, int, npt.NDArray[np.int64]]]:
    """Yield who judges which rows: each canary its share of the cards, the champion the rest."""
    if serving.canaries:
        place = vectors.card_hash[todo] / 2.0**64
        edge = 0.0
        taken = np.zeros(len(todo), np.bool_)
        for canary in serving.canaries:
            mine = (place >= edge) & (place < edge + canary.share)
            edge += canary.share
            taken |= mine
            yield canary.model, CANARY, todo[mine]
        todo = todo[~taken]
    if serving.champion is not None:
        yield serving.champion, CHAMPION, todo


def _by_model(
    scores: _Scores, columns: Columns, policy: Policy, known: npt.NDArray[np.bool_], rows: int
) -> Codes:
    """Apply thresholds; the fallback where the vector is not of our catalogue."""
    block, review = np.full(rows, np.inf), np.full(rows, np.inf)
    for index, model in enumerate(scores.models):
        mine = scores.model == index
        limits = policy.document.thresholds or model.thresholds
        block[mine], review[mine] = limits.block, limits.review
    free = np.ones(rows, np.bool_)
    for condition, limits in policy.segments:
        inside = condition.hits(columns, rows) & free
        block[inside], review[inside] = limits.block, limits.review
        free &= ~inside
    action = (scores.score > review).astype(np.uint8)
    action[scores.score > block] = BLOCK
    action[~known] = ACTIONS.index(policy.document.fallback)
    return action


def _by_rules(
    action: Codes, columns: Columns, policy: Policy, hits: list[list[Rule | ListPart]], rows: int
) -> Codes:
    if not policy.rules:
        return action
    severest = np.zeros(rows, np.uint8)
    lifted = np.zeros(rows, np.bool_)
    for rule in policy.rules:
        hit = rule.hits(columns, rows)
        for row in np.flatnonzero(hit).tolist():
            hits[row].append(rule)
        code = ACTIONS.index(rule.action)
        if code == APPROVE:
            lifted |= hit
        else:
            severest[hit] = np.maximum(severest[hit], code)
    action = np.where(lifted, np.uint8(APPROVE), action)
    return np.maximum(action, severest)


def _by_lists(
    action: Codes, vectors: DecodedVectors, policy: Policy, hits: list[list[Rule | ListPart]]
) -> None:
    """Apply the lists, allowing ones first so that blocking ones win."""
    for part, values in sorted(policy.lists, key=lambda each: each[0].action):
        texts = vectors.raw(part.field)
        for row in [row for row, text in enumerate(texts) if text in values]:
            action[row] = ACTIONS.index(part.action)
            hits[row].append(part)


def _degraded(vectors: DecodedVectors, scores: _Scores) -> dict[int, str]:
    """Return why no model judged a row, for the rows of which that is so."""
    if bool((scores.model >= 0).all()):
        return {}
    known = vectors.known.tolist()
    return {
        row: NO_MODEL if known[row] else UNKNOWN_FINGERPRINT
        for row in np.flatnonzero(scores.model < 0).tolist()
    }


def _explanations(
    action: Codes,
    scores: _Scores,
    hits: list[list[Rule | ListPart]],
    degraded: dict[int, str],
) -> dict[int, bytes]:
    """Return the explanation of each row that has one: not approved, a rule hit, degraded."""
    wanted = set(degraded) | {row for row in range(len(hits)) if hits[row]}
    wanted.update(np.flatnonzero(action != APPROVE).tolist())
    reasons = _feature_reasons(action, scores)
    explanations = {}
    for row in wanted:
        found = hits[row] if hits else []
        named: list[Reason] = [hit_reason(hit) for hit in found] if action[row] else []
        explanations[row] = explain(
            degraded.get(row),
            [hit_reason(hit)["code"] for hit in found],
            named + reasons.get(row, []),
        )
    return explanations


def _feature_reasons(action: Codes, scores: _Scores) -> dict[int, list[Reason]]:
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
