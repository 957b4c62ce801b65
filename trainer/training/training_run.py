"""A training run from data to a judged bundle, whatever the source of the data.

Data check, training, gates, model card, bundle. The run is recorded under `state_dir` in any case;
Kafka and MLflow come afterwards, see `publication` and `tracking`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from schemas.errors import ConfigurationError, FraudError
from scorer.model.bundle import Model, load_model
from trainer.dataset.check import DataReport
from trainer.dataset.dataset import Dataset
from trainer.evaluation.gate_bounds import GateBounds
from trainer.evaluation.gates import Evidence, GateReport, judge
from trainer.evaluation.resampling import intervals
from trainer.evaluation.slices import SliceReport, slice_labels, slice_reports
from trainer.registry.signing import Signer
from trainer.training import batch_training, bundle_writer, learned, run_records
from trainer.training.batch_training import Holdout, Trained, TrainOptions
from trainer.training.explain import shap_summary
from trainer.training.model_card import CardFacts, model_card
from trainer.training.run_records import RunRecord

TIMED_ROWS: Final = 200


Check = Callable[[Dataset], DataReport]


@dataclass(frozen=True, slots=True)
class Champion:
    """The bundle that serves now; `sha256` is that of its manifest."""

    model_id: str
    directory: Path
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Where and how a run works.

    `output` is the folder of bundles, `state_dir` that of runs; `run_id` is made up if None.
    `signer` signs the bundle; None leaves it unsigned.
    """

    model_id: str
    output: Path
    state_dir: Path
    train: TrainOptions
    bounds: GateBounds
    run_id: str | None = None
    signer: Signer | None = None


def run_training(
    data: Dataset,
    provenance: Mapping[str, Any],
    options: RunOptions,
    champion: Champion | None = None,
    check: Check | None = None,
    *,
    progress: Callable[[float], None] | None = None,
    clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
) -> RunRecord:
    """Train, judge and record; return the record, also when check or gates refuse.

    A model that the gates refuse is kept as a bundle, with its card, for people to look at. The
    champion scores the same holdout; where it has learned from those rows it looks better than it
    is, see `gates`. `progress` gets the share of the search's budget that is spent.

    Raises:
        ConfigurationError: the data cannot be trained on, the champion does not load, or the bundle
            cannot be written. The run is recorded as failed.
    """
    started = clock()
    begun = RunRecord(
        run_id=options.run_id or f"run-{started}-{os.getpid()}",
        model_id=options.model_id,
        started_at=started,
        finished_at=started,
        state="failed",
        provenance=dict(provenance),
        champion_id=None if champion is None else champion.model_id,
    )
    try:
        record = _run(data, begun, options, champion, check, progress)
    except FraudError as error:
        failed = replace(begun, finished_at=clock(), reasons=(str(error),))
        run_records.save(failed, options.state_dir)
        raise
    record = replace(record, finished_at=clock())
    run_records.save(record, options.state_dir)
    return record


def _run(
    data: Dataset,
    record: RunRecord,
    options: RunOptions,
    champion: Champion | None,
    check: Check | None,
    progress: Callable[[float], None] | None,
) -> RunRecord:
    against = None if champion is None else _load(champion)
    if check is not None:
        report = check(data)
        record = replace(record, check=report.to_json())
        if report.failures:
            reasons = tuple(str(failure) for failure in report.failures)
            return replace(record, state="refused by data check", reasons=reasons)
    trained, holdout = batch_training.train(data, options.train, progress=progress)
    directory = options.output / options.model_id
    with bundle_writer.draft(directory, options.model_id, trained, options.signer) as draft:
        candidate = _Candidate(data, options, trained, holdout, *draft.served())
        known = (
            () if champion is None else learned.bundle_ranges(champion.directory, champion.sha256)
        )
        slices = candidate.slices()
        gates = _judged(candidate, slices, against, learned.within(data.time[holdout.rows], known))
        image, card = _card(candidate, record, slices, gates)
        draft.add("shap.png", image)
        draft.add("model_card.md", model_card(card))
        ranges = learned.learned_ranges(data, options.train.gap_ms)
        draft.add(learned.TRAINING, json.dumps(learned.document(ranges)))
        draft.add("gates.json", json.dumps(gates.document()))
        if record.check is not None:
            draft.add("data_check.json", json.dumps(record.check))
        sha256 = draft.finish()
    return replace(
        record,
        state="passed" if gates.passed else "refused by gates",
        reasons=tuple(verdict.text for verdict in gates.failures),
        parameters={**trained.parameters, "gap_ms": options.train.gap_ms},
        thresholds=trained.thresholds,
        metrics=trained.metrics,
        intervals={name: asdict(value) for name, value in card.intervals.items()},
        notes=trained.notes,
        gates=gates.document(),
        bundle=str(directory.resolve()),
        sha256=sha256,
    )


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A trained model, the holdout that judges it, and `model`, as a scorer would serve it."""

    data: Dataset
    options: RunOptions
    trained: Trained
    holdout: Holdout
    model: Model
    bundle_bytes: int

    @property
    def vectors(self) -> npt.NDArray[np.float32]:
        """Vectors of the holdout."""
        return self.data.vectors[self.holdout.rows]

    @property
    def alerted(self) -> npt.NDArray[np.bool_]:
        """Which rows of the holdout would be reviewed or blocked."""
        return self.holdout.score > self.trained.thresholds["review"]

    def slices(self) -> list[SliceReport]:
        """Return how groups of transactions fare."""
        rows = np.arange(self.holdout.rows.start, self.holdout.rows.stop)
        return slice_reports(
            slice_labels(self.data.transactions.take(rows)),
            self.holdout.fraud,
            self.alerted,
            min_rows=self.options.bounds.fairness.least_rows,
        )


def _judged(
    candidate: _Candidate,
    slices: Sequence[SliceReport],
    champion: Model | None,
    champion_saw: npt.NDArray[np.bool_],
) -> GateReport:
    holdout, vectors = candidate.holdout, candidate.vectors
    probability = None
    if champion is not None:
        probability = champion.probability(champion.inputs(vectors)).astype(np.float64)
    evidence = Evidence(
        fraud=holdout.fraud,
        probability=holdout.probability,
        alerted=candidate.alerted,
        champion_id=None if champion is None else champion.model_id,
        champion_probability=probability,
        row_us=row_us(candidate.model, vectors),
        bundle_bytes=candidate.bundle_bytes,
        slices=slices,
        champion_saw=champion_saw,
    )
    return judge(evidence, candidate.options.bounds)


def _card(
    candidate: _Candidate, record: RunRecord, slices: Sequence[SliceReport], gates: GateReport
) -> tuple[bytes, CardFacts]:
    """Return the SHAP plot and everything that the model card says."""
    options, trained, holdout = candidate.options, candidate.trained, candidate.holdout
    image, features = shap_summary(
        trained.booster,
        candidate.model.inputs(candidate.vectors),
        holdout.fraud,
        batch_training.COLUMNS,
        seed=options.train.seed,
    )
    return image, CardFacts(
        model_id=options.model_id,
        written_at=record.started_at,
        data=candidate.data,
        provenance=record.provenance,
        options=options.train,
        trained=trained,
        holdout=holdout,
        intervals=intervals(holdout.probability, holdout.score, holdout.fraud, trained.thresholds),
        slices=slices,
        features=features,
        gates=gates,
    )


def row_us(model: Model, vectors: npt.NDArray[np.float32]) -> float:
    """Return the median time in µs that a scorer takes for one row alone."""
    times = []
    for row in range(min(len(vectors), TIMED_ROWS)):
        began = time.perf_counter_ns()
        model.score(model.inputs(vectors[row : row + 1]))
        times.append(time.perf_counter_ns() - began)
    return float(np.median(times)) / 1e3


def _load(champion: Champion) -> Model:
    try:
        return load_model(champion.directory, champion.sha256)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"the champion {champion.model_id} cannot be compared with: {error}; "
            "--champion none trains without a comparison"
        ) from error
