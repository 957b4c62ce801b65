"""The trainer's part: a retrain request to a candidate, and a candidate's way through the stages.

Training is `trainer.training.training_run` on the archive as it is at the clock's time; the time
that it takes also passes on the clock, so its candidate arrives minutes after the request.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from runtime.clock import ManualClock
from runtime.kafka.model_registry import ModelRegistry, registration
from schemas.errors import ConfigurationError
from schemas.features import DAY, FINGERPRINT
from schemas.manifest import MANIFEST_NAME, write_manifest
from schemas.records import Stage
from scorer.model.bundle import CALIBRATION
from simulation.simulation_plan import SimulationPlan
from trainer.archive.delta_tables import Archive
from trainer.dataset import check as data_check
from trainer.dataset.archived import from_archive
from trainer.evaluation.gate_bounds import load_bounds
from trainer.registry.advance import ACTOR, Lately, next_steps
from trainer.registry.publication import current_champion, publish_run
from trainer.training.batch_training import TrainOptions
from trainer.training.run_records import RunRecord
from trainer.training.training_run import RunOptions, run_training

Note = Callable[[str, str], None]
BAD_MODEL: Final = "broken"
MIN_MS: Final = 60_000
"""A training takes a minute at least: a process starts, and the archive is read."""


@dataclass(slots=True)
class _Training:
    record: RunRecord
    ready_at: int


class SimulatedTrainer:
    """Trains for requests, one at a time, and moves candidates on.

    Args:
        note: gets an event and its detail for the timeline.
    """

    def __init__(
        self,
        plan: SimulationPlan,
        folder: Path,
        registry: ModelRegistry,
        clock: ManualClock,
        note: Note,
    ) -> None:
        self._plan, self._folder = plan, folder
        self._registry, self._clock, self._note = registry, clock, note
        self._training: _Training | None = None
        self._count = 0

    @property
    def busy(self) -> bool:
        """Whether a training runs or a candidate is on trial."""
        states = self._registry.states()
        return self._training is not None or bool(states.at("SHADOW", "CANARY"))

    def first(self, archive: Archive) -> RunRecord:
        """Train the first champion and put it in service.

        Raises:
            ConfigurationError: check or gates refuse it.
        """
        record = self._train(archive)
        if not record.passed:
            raise ConfigurationError(
                f"the first model is {record.state}: {'; '.join(record.reasons)}; "
                "give more --customers"
            )
        publish_run(self._registry, record, "CHAMPION", None)
        return record

    def request(self, archive: Archive, reason: str) -> None:
        """Train for a request; its outcome is published when the clock has moved on."""
        if self.busy:
            self._note("retrain_request_waits", f"{reason}: a candidate is under way")
            return
        self._note("retrain_started", reason)
        began = time.perf_counter()
        try:
            record = self._train(archive)
        except ConfigurationError as error:
            self._note("retrain_failed", str(error))
            return
        took = max(round((time.perf_counter() - began) * 1_000), MIN_MS)
        self._training = _Training(record, self._clock.now_ms() + took)

    def advance(self, decisions: Mapping[str, int], lately: Lately) -> None:
        """Publish a finished training and do the steps that are due, see `next_steps`."""
        now = self._clock.now_ms()
        if self._training is not None and now >= self._training.ready_at:
            record, self._training = self._training.record, None
            self._publish(record)
        for step in next_steps(self._registry.states(), self._plan.advance, now, decisions, lately):
            self._registry.change(
                step.model_id, step.stage, actor=ACTOR, comment=step.why, share=step.share
            )
            self._note(step.stage.lower(), f"{step.model_id}: {step.why}")

    def put_bad_model(self, archive: Archive) -> str:
        """Train a model that passes the gates, break its bundle, and make that a canary.

        Its calibration breaks: the knots are log-odds instead of probabilities, as after a wrong
        export. Nothing offline sees it, since the gates judged the bundle before. Returns its
        model_id.

        Raises:
            ConfigurationError: check or gates refuse it.
        """
        bundle = self._folder / "models" / BAD_MODEL
        if not bundle.exists():
            record = self._train(archive)
            if not record.passed or record.bundle is None:
                raise ConfigurationError(
                    f"the model to be broken is {record.state}: {'; '.join(record.reasons)}"
                )
            broken(Path(record.bundle), BAD_MODEL)
        model_id = BAD_MODEL
        self._registry.register(
            registration(bundle, actor="person", occurred_at=self._clock.now_ms())
        )
        share = self._plan.canary_share
        stage: Stage = "CANARY"
        self._registry.change(
            model_id, stage, actor="person", comment="passed every gate", share=share
        )
        self._note("canary", f"{model_id}: {share:.0%} of the cards, served by log-odds")
        return model_id

    def _publish(self, record: RunRecord) -> None:
        if not record.passed:
            self._note("refused", f"{record.model_id} {record.state}: {'; '.join(record.reasons)}")
            return
        publish_run(self._registry, record, "SHADOW", None)
        counts = record.provenance["counts"]
        self._note(
            "shadow",
            f"{record.model_id}: AUC {record.metrics['auc']:.4f}, trained with "
            f"{counts.get('young', 0):,} immature rows, {counts['frauds']:,} frauds",
        )

    def _train(self, archive: Archive) -> RunRecord:
        plan, now = self._plan, self._clock.now_ms()
        self._count += 1
        data, provenance = from_archive(
            archive,
            cutoff_ms=now,
            maturity_ms=plan.label_delay_ms,
            since_ms=max(plan.archived_from, now - plan.history_days * DAY),
            early=True,
            silence_ms=DAY,
            now_ms=now,
        )
        options = RunOptions(
            model_id=f"model-{self._count}",
            output=self._folder / "models",
            state_dir=self._folder / "state",
            train=TrainOptions(
                gap_ms=plan.label_delay_ms,
                rounds=plan.rounds,
                targets=plan.targets,
                seed=plan.seed,
            ),
            bounds=load_bounds(),
        )
        return run_training(
            data,
            provenance,
            options,
            current_champion(self._registry),
            data_check.check,
            clock=self._clock.now_ms,
        )


def broken(bundle: Path, model_id: str) -> Path:
    """Copy a bundle with its calibration over log-odds; return the directory, named `model_id`."""
    directory = bundle.with_name(model_id)
    shutil.copytree(bundle, directory)
    (directory / MANIFEST_NAME).unlink()
    path = directory / CALIBRATION
    knots = json.loads(path.read_text())
    share = np.clip(np.array(knots["x"]), 1e-9, 1.0 - 1e-9)
    knots["x"] = np.log(share / (1.0 - share)).tolist()
    path.write_text(json.dumps(knots))
    write_manifest(directory, model_id, FINGERPRINT)
    return directory
