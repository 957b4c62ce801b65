"""Replay of a table under models and policies: the decisions that the scorer would have made.

The engine replays on the calling thread; two others judge its pieces by `scorer.decision.judge`,
the code that serves. Compiled code of both runs without the interpreter's lock, so two cores are
busy. Figures are made of the result by `trainer.backtest.backtest_report`.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.columns import TransactionColumns
from schemas.errors import ConfigurationError
from schemas.features import DAY
from schemas.mapping.event_order import event_order
from scorer.decision.judge import APPROVE, Judgement, Serving, judge
from scorer.decision.reasons import feature_reasons
from scorer.model.bundle import COLUMNS, Model
from scorer.policy.document import ListPart
from stream_features.offline.replay import Piece, Progress, replay_pieces
from stream_features.offline.transaction_table import table_columns
from trainer.backtest.replayed_batch import ReplayedBatch

UNLABELLED, GENUINE, FRAUD = -1, 0, 1
WORKERS: Final = 2
AHEAD: Final = 4
"""Pieces that may wait to be judged; more would only take memory."""
SAMPLE: Final = 200_000
"""Vectors kept, evenly spread over time: drift is measured on them."""
EXPLAINED: Final = 2_000
"""Alerts, drawn at random, whose reasons are computed."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A model under a policy, and the bundle's reference histograms."""

    serving: Serving
    histograms: dict[str, dict[str, list[float]]]

    @property
    def model(self) -> Model:
        """The model that decides alone.

        Raises:
            ConfigurationError: there is none.
        """
        if self.serving.champion is None:
            raise ConfigurationError("a backtest needs a model: give --model or --candidate")
        return self.serving.champion

    @property
    def name(self) -> str:
        """Model and policy, for people."""
        return f"{self.model.model_id} under policy {self.serving.policy.version}"


@dataclass(slots=True)
class Outcome:
    """What a contender decided: score float64[n], action uint8[n], how often rules and lists fired.

    `alerts` are inputs (float32[m, 71]) of at most 2,000 REVIEWs and BLOCKs drawn at random.
    """

    contender: Contender
    score: npt.NDArray[np.float64]
    action: npt.NDArray[np.uint8]
    rule_hits: Counter[str] = field(default_factory=Counter)
    alerts: npt.NDArray[np.float32] = field(
        default_factory=lambda: np.zeros((0, COLUMNS), np.float32)
    )
    _ticket: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, first: int, judged: Judgement) -> None:
        """Note the decisions of the rows from `first` on; pieces may come in any order."""
        last = first + len(judged.action)
        self.score[first:last] = judged.scores.score
        self.action[first:last] = judged.action
        rows = np.flatnonzero(judged.action != APPROVE)
        ticket = np.random.default_rng(first).random(len(rows))
        lucky = np.argsort(ticket)[:EXPLAINED]
        hits: Counter[str] = Counter(
            hit.id if isinstance(hit, ListPart) else hit.rule_id
            for found in judged.hits.values()
            for hit in found
        )
        with self._lock:
            self.rule_hits += hits
            tickets = np.concatenate([self._ticket, ticket[lucky]])
            alerts = np.concatenate([self.alerts, judged.scores.inputs[rows[lucky]]])
            kept = np.argsort(tickets)[:EXPLAINED]
            self._ticket, self.alerts = tickets[kept], alerts[kept]

    def reasons(self) -> Counter[str]:
        """Return how many of `alerts` name each feature among their reasons."""
        model = self.contender.model
        added = model.contributions(self.alerts)
        return Counter(
            reason["code"]
            for row in range(len(self.alerts))
            for reason in feature_reasons(self.alerts[row], added[row])
        )


@dataclass(frozen=True, slots=True)
class Backtest:
    """n judged transactions in event order, and what each contender made of them.

    `rows` (int64[n]) are places in `table`; `label` (int8[n]) is 1 fraud, 0 genuine, -1 unknown;
    `labelled` are the rows that count for quality: a label, and neither duplicate nor late, nor a
    refund or reversal.
    `sample` (int64[m]) are the rows, ascending, whose `vectors` (float32[m, 71]) were kept.
    """

    table: pa.Table
    rows: npt.NDArray[np.int64]
    time: npt.NDArray[np.int64]
    amount: npt.NDArray[np.int64]
    card: npt.NDArray[np.uint64]
    label: npt.NDArray[np.int8]
    labelled: npt.NDArray[np.bool_]
    sample: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]
    outcomes: list[Outcome]
    replayed: int


def run(
    table: pa.Table,
    contenders: Sequence[Contender],
    *,
    label_delay_ms: int = 7 * DAY,
    since_ms: int | None = None,
    progress: Progress | None = None,
) -> Backtest:
    """Replay a mapped table and judge it by each of the contenders.

    Args:
        since_ms: older transactions only build up the state of the engine; they are not judged.
        progress: called with the number of transactions done since the last call.

    Raises:
        ConfigurationError: no label, or nothing to judge.
    """
    if "label" not in table.column_names:
        raise ConfigurationError(
            "the mapping has no 'label' field: a backtest compares decisions with what was fraud; "
            "add `label:` to the mapping"
        )
    order = event_order(table)
    time = table.column("event_time").to_numpy()[order]
    begin = 0 if since_ms is None else int(np.searchsorted(time, since_ms))
    count = len(order) - begin
    if count == 0:
        raise ConfigurationError(
            "the input has no transactions to judge: give a longer history or an earlier --since"
        )
    outcomes = [
        Outcome(each, np.full(count, np.nan), np.zeros(count, np.uint8)) for each in contenders
    ]
    sample = np.arange(0, count, -(-count // SAMPLE))
    vectors = np.empty((len(sample), COLUMNS), np.float32)
    flags = np.zeros(count, np.uint8)

    def judge_piece(batch: ReplayedBatch, first: int) -> None:
        for outcome in outcomes:
            judged = judge(batch, outcome.contender.serving)
            outcome.add(first, judged)
            if outcome is outcomes[0]:
                low, high = np.searchsorted(sample, [first, first + len(batch)])
                vectors[low:high] = judged.scores.inputs[sample[low:high] - first]

    with ThreadPoolExecutor(WORKERS) as pool:
        waiting: deque[Future[None]] = deque()
        for piece in replay_pieces(table, order, label_delay_ms):
            if piece.last > begin:
                skip = max(begin - piece.first, 0)
                first = piece.first + skip - begin
                flags[first : piece.last - begin] = piece.flags[skip:]
                waiting.append(pool.submit(judge_piece, _batch(table, order, piece, skip), first))
            if len(waiting) > AHEAD:
                waiting.popleft().result()
            if progress is not None:
                progress(piece.last - piece.first)
        for future in waiting:
            future.result()
    rows = order[begin:]
    labels = table.column("label").combine_chunks()
    label = labels.cast(pa.int8()).fill_null(UNLABELLED).to_numpy(zero_copy_only=False)[rows]
    names = ["event_time", "amount", "card_id", "kind"]
    columns = table_columns(table.select([n for n in names if n in table.column_names]), rows)
    labelled = (label != UNLABELLED) & (flags == 0) & ~columns.given_back
    return Backtest(
        table, rows, columns.time, columns.amount, columns.card, label, labelled, sample, vectors,
        outcomes, len(order),
    )  # fmt: skip


def _batch(table: pa.Table, order: npt.NDArray[np.int64], piece: Piece, skip: int) -> ReplayedBatch:
    columns: TransactionColumns = piece.columns.cut(skip, piece.last - piece.first)
    return ReplayedBatch(
        table, order[piece.first + skip : piece.last], columns, piece.vectors[skip:]
    )
