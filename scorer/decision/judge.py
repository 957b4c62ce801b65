"""From a batch to scores and actions: models, thresholds, rules and lists. Pure.

Live messages (`scorer.decision.decide`) and replayed tables (`trainer.backtest.backtest`) are
judged by the same code, so that a backtest makes the decisions of the live system.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from schemas.columns import CHANNELS, KINDS
from schemas.features import NAMES
from scorer.model.bundle import Model
from scorer.policy.addresses import Addresses
from scorer.policy.document import DEFAULT_POLICY, TEXT_FIELDS, ListPart, Policy
from scorer.policy.expressions import Rule

APPROVE, REVIEW, BLOCK = range(3)
ACTIONS: Final = ("APPROVE", "REVIEW", "BLOCK")
NO_ROLE, CHAMPION, CANARY = range(3)
ROLES: Final = ("NONE", "CHAMPION", "CANARY")
Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint8]
Hits = dict[int, list[Rule | ListPart]]


@dataclass(frozen=True, slots=True)
class Canary:
    """A model that decides for a `share` (0 to 1) of the cards."""

    model: Model
    share: float


@dataclass(frozen=True, slots=True)
class Serving:
    """The models and the policy in force. Earlier canaries take their share of cards first."""

    policy: Policy = DEFAULT_POLICY
    champion: Model | None = None
    canaries: tuple[Canary, ...] = ()
    shadows: tuple[Model, ...] = ()

    def models(self) -> list[Model]:
        """Return every model in use."""
        champion = [] if self.champion is None else [self.champion]
        return [*champion, *(canary.model for canary in self.canaries), *self.shadows]


class Batch(Protocol):
    """n transactions with their vectors, from messages (`DecodedVectors`) or from a table."""

    def __len__(self) -> int:
        """Number of rows."""
        ...

    @property
    def matrix(self) -> npt.NDArray[np.float32]:
        """The vectors, float32[n, 70] in C order."""
        ...

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Whether each row's vector belongs to our catalogue."""
        ...

    @property
    def channel(self) -> npt.NDArray[np.integer[Any]]:
        """Each row's position in `schemas.columns.CHANNELS`."""
        ...

    @property
    def kind(self) -> npt.NDArray[np.integer[Any]]:
        """Each row's position in `schemas.columns.KINDS`."""
        ...

    @property
    def card_hash(self) -> npt.NDArray[np.uint64]:
        """Hash of each card id, by which canaries get their share of the cards."""
        ...

    def strings(self, field: str) -> npt.NDArray[np.str_]:
        """Return a text field of every row; "" where it is missing."""
        ...

    def rows_with(self, field: str, values: Collection[bytes]) -> list[int]:
        """Return, in ascending order, the rows whose text field (UTF-8) is among `values`."""
        ...


@dataclass(slots=True)
class Scores:
    """The scores of a batch; NaN where no model could score. `model` indexes `models`, or is -1."""

    score: Floats
    anomaly: Floats
    model: npt.NDArray[np.int64]
    role: Codes
    inputs: npt.NDArray[np.float32]
    models: list[Model] = field(default_factory=list)
    shadows: list[tuple[str, Floats]] = field(default_factory=list)


@dataclass(slots=True)
class Judgement:
    """The actions for n rows; `hits` maps rows to the rules and lists that fired."""

    action: Codes
    scores: Scores
    hits: Hits


class Columns(Mapping[str, Any]):
    """A batch as rules see it; each column is made when a rule first uses it."""

    def __init__(self, batch: Batch, scores: Scores) -> None:
        self._batch, self._scores = batch, scores
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """Return a column of n values: float32 feature, float64 score or text ("" if missing)."""
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Any:
        if name == "score":
            return self._scores.score
        if name == "anomaly_score":
            return self._scores.anomaly
        if name == "channel":
            return np.array(CHANNELS)[self._batch.channel]
        if name == "kind":
            return np.array(KINDS)[self._batch.kind]
        if name in TEXT_FIELDS:
            return self._batch.strings(name)
        return self._batch.matrix[:, NAMES.index(name)]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the columns made so far."""
        return iter(self._made)

    def __len__(self) -> int:
        """Number of columns made so far."""
        return len(self._made)


def judge(batch: Batch, serving: Serving) -> Judgement:
    """Score n rows and apply the policy. No row makes it raise."""
    rows = len(batch)
    scores = _score(batch, serving)
    columns = Columns(batch, scores)
    policy = serving.policy
    hits: Hits = {}
    action = _by_model(scores, columns, policy, batch.known, rows)
    action = _by_rules(action, columns, policy, hits, rows)
    _by_lists(action, batch, policy, hits)
    return Judgement(action, scores, hits)


def _score(batch: Batch, serving: Serving) -> Scores:
    rows = len(batch)
    scores = Scores(
        np.full(rows, np.nan),
        np.full(rows, np.nan),
        np.full(rows, -1, np.int64),
        np.zeros(rows, np.uint8),
        np.empty((0, 0), np.float32),
    )
    if serving.champion is None and not serving.canaries:
        return scores
    whole = bool(batch.known.all())
    todo = np.arange(rows) if whole else np.flatnonzero(batch.known)
    for model, role, mine in _shares(batch, serving, todo):
        if len(mine) == 0:
            continue
        inputs = model.inputs(batch.matrix if len(mine) == rows else batch.matrix[mine])
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
        _watch(scores, serving.shadows, batch.matrix if whole else batch.matrix[todo], todo)
    return scores


def _watch(
    scores: Scores,
    shadows: tuple[Model, ...],
    matrix: npt.NDArray[np.float32],
    todo: npt.NDArray[np.int64],
) -> None:
    """Score `matrix`, the rows `todo`, with every shadow; they share one copy of the inputs."""
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
    batch: Batch, serving: Serving, todo: npt.NDArray[np.int64]
) -> Iterator[tuple[Model, int, npt.NDArray[np.int64]]]:
    """Yield model, role and rows: canaries get their shares of the cards, the champion the rest."""
    if serving.canaries:
        place = batch.card_hash[todo] / 2.0**64
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
    scores: Scores, columns: Columns, policy: Policy, known: npt.NDArray[np.bool_], rows: int
) -> Codes:
    """Apply the thresholds, or the fallback where no model has scored a vector."""
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
    action[scores.model < 0] = ACTIONS.index(policy.document.fallback)
    return action


def _by_rules(action: Codes, columns: Columns, policy: Policy, hits: Hits, rows: int) -> Codes:
    if not policy.rules:
        return action
    severest = np.zeros(rows, np.uint8)
    lifted = np.zeros(rows, np.bool_)
    for rule in policy.rules:
        hit = rule.hits(columns, rows)
        for row in np.flatnonzero(hit).tolist():
            hits.setdefault(row, []).append(rule)
        code = ACTIONS.index(rule.action)
        if code == APPROVE:
            lifted |= hit
        else:
            severest[hit] = np.maximum(severest[hit], code)
    action = np.where(lifted, np.uint8(APPROVE), action)
    return np.maximum(action, severest)


def _by_lists(action: Codes, batch: Batch, policy: Policy, hits: Hits) -> None:
    """Apply the lists: allow lists first, so that block lists win."""
    for part, values in sorted(policy.lists, key=lambda each: each[0].action):
        if isinstance(values, Addresses):
            rows = np.flatnonzero(values.among(batch.strings(part.field))).tolist()
        else:
            rows = batch.rows_with(part.field, values)
        for row in rows:
            action[row] = ACTIONS.index(part.action)
            hits.setdefault(row, []).append(part)
