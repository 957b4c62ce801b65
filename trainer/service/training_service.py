"""The training service: which run is due, one at a time, each of them recorded.

A run is due at its times of day and after a request on `retrain-requests`. It answers everything
that waits when it starts; later requests wait for the next run. The journal is written before a run
starts and after it is recorded, and requests are committed only then. A service that is interrupted
at any point therefore resumes the same run, under the same id, when it starts again. This module
does no I/O to Kafka.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from runtime.clock import Clock
from runtime.command_line import TEMPORARY_FAILURE
from runtime.kafka.protocols import Message, TopicPartition
from runtime.metrics import Metrics
from schemas.codec import avro
from schemas.errors import BadMessage
from trainer.service import training_journal as journals
from trainer.service.schedule import last_due
from trainer.service.training_child import Ended, Runner
from trainer.service.training_journal import Current, TrainingJournal
from trainer.training import run_records
from trainer.training.run_records import RunRecord

log = structlog.get_logger(__name__)
SERVICE: Final = "trainer"
SCHEDULED: Final = "scheduled"
MAX_ATTEMPTS: Final = 20
"""Starts of a run for which something outside is not ready; about three hours of them."""
MAX_BROKEN_OFF: Final = 3
"""How often a run may take the service with it."""
FIRST_WAIT_MS, MAX_WAIT_MS = 60_000, 600_000


class TrainingService:
    """See the module. Call `receive` with new requests, then `step`, then commit `commits`.

    Args:
        minutes: of the day (UTC), at which runs are due.
        recorded: gets each recorded run, whichever process recorded it.
    """

    def __init__(
        self,
        runner: Runner,
        state_dir: Path,
        minutes: Sequence[int],
        *,
        clock: Clock,
        metrics: Metrics,
        recorded: Callable[[RunRecord], None] = lambda record: None,
    ) -> None:
        self._runner, self._state_dir, self._minutes = runner, state_dir, tuple(minutes)
        self._clock, self._metrics, self._recorded = clock, metrics, recorded
        self._waiting: dict[tuple[TopicPartition, int], tuple[str, int]] = {}
        self._next: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._retry_at = 0
        self._running = False
        passed = run_records.last_passed(state_dir)
        if passed is not None:
            self._passed(passed)
        self._journal = journals.load(state_dir) or TrainingJournal(since=clock.now_ms())
        current = self._journal.current
        if current is not None and current.under_way:
            log.warning("a run broke off with the service", run_id=current.run_id)
            current = replace(current, under_way=False, broken_off=current.broken_off + 1)
        self._write(replace(self._journal, current=current))

    def receive(self, messages: Sequence[Message]) -> None:
        """Take requests; answered ones and other messages are skipped."""
        for message in messages:
            at = TopicPartition(message.topic, message.partition)
            self._next[at] = max(self._next.get(at, 0), message.offset + 1)
            if message.timestamp <= self._journal.answered_until:
                continue
            try:
                name, record = avro.decode(message.value or b"")
                if name != "RetrainRequest":
                    raise BadMessage(f"it is a {name}, a RetrainRequest belongs there")
            except BadMessage as error:
                log.warning("no request", offset=message.offset, reason=str(error))
                self._metrics.count("refused", kind="retrain-requests")
                continue
            self._waiting[at, message.offset] = (record["reason"], message.timestamp)

    def revoked(self, places: Sequence[TopicPartition]) -> None:
        """Forget requests that another one reads now; a run that is under way goes on."""
        self._waiting = {key: value for key, value in self._waiting.items() if key[0] not in places}
        for place in places:
            self._next.pop(place, None)
            self._committed.pop(place, None)

    def step(self) -> None:
        """Look after the run that is under way, or start what is due. Does not wait.

        Raises:
            ConfigurationError: the folder of runs cannot be written.
        """
        if self._running:
            ended = self._runner.poll()
            if ended is not None:
                self._running = False
                self._ended(ended)
        if not self._running:
            current = self._journal.current or self._due()
            if current is not None and self._clock.now_ms() >= self._retry_at:
                self._start(current)
        self._metrics.set("training", float(self._running))
        self._metrics.set("training_queue", len(self._reasons(self._clock.now_ms())))

    def commits(self) -> Mapping[TopicPartition, int]:
        """Return the next offsets to read where these moved: up to the first that waits."""
        found = dict(self._next)
        for at, offset in self._waiting:
            found[at] = min(found.get(at, offset), offset)
        moved = {at: offset for at, offset in found.items() if self._committed.get(at) != offset}
        self._committed |= moved
        return moved

    def stop(self) -> None:
        """End the run that is under way; the next service takes it up."""
        if not self._running:
            return
        self._runner.stop()
        self._running = False
        current = self._journal.current
        if current is not None:
            log.info("stopped the run; it starts again with the service", run_id=current.run_id)
            self._write(replace(self._journal, current=replace(current, under_way=False)))

    def _reasons(self, now: int) -> list[str]:
        """Return why a run is due after the one that may be under way."""
        current = self._journal.current
        answered = self._journal.answered_until if current is None else current.answers_until
        found = [reason for reason, time in self._waiting.values() if time > answered]
        due = last_due(self._minutes, now)
        if due is not None and due > max(answered, self._journal.since):
            found.append(SCHEDULED)
        return found

    def _due(self) -> Current | None:
        now = self._clock.now_ms()
        reasons = self._reasons(now)
        if not reasons:
            return None
        return Current(
            run_id=f"run-{now}",
            reasons=tuple(sorted(set(reasons))),
            started_at=now,
            answers_until=max([now, *(time for _, time in self._waiting.values())]),
        )

    def _start(self, current: Current) -> None:
        if self._complete(current):  # the service ended between the record and the journal
            self._ended(Ended(0))
        elif current.broken_off >= MAX_BROKEN_OFF:
            self._journal = replace(self._journal, current=current)
            self._ended(Ended(1, f"the service ended during it {current.broken_off} times"))
        else:
            current = replace(current, attempts=current.attempts + 1, under_way=True)
            self._write(replace(self._journal, current=current))
            log.info("starts", run_id=current.run_id, reasons=current.reasons)
            self._runner.start(current.run_id)
            self._running = True

    def _ended(self, ended: Ended) -> None:
        current = self._journal.current
        if current is None:
            raise ValueError("no run is under way")
        record = self._complete(current)
        if record is None and ended.code == TEMPORARY_FAILURE and current.attempts < MAX_ATTEMPTS:
            wait = min(FIRST_WAIT_MS << (current.attempts - 1), MAX_WAIT_MS)
            self._retry_at = self._clock.now_ms() + wait
            log.warning("tries again", run_id=current.run_id, ms=wait, reason=ended.reason)
            self._write(replace(self._journal, current=replace(current, under_way=False)))
            return
        if record is None:
            record = self._failed(current, ended)
            run_records.save(record, self._state_dir)
        self._metrics.count("training_runs", state=record.state)
        if record.passed:
            self._passed(record)
        log.info("recorded", run_id=record.run_id, state=record.state, reasons=record.reasons)
        self._recorded(record)
        answered = max(self._journal.answered_until, current.answers_until)
        self._write(replace(self._journal, answered_until=answered, current=None))
        self._waiting = {key: value for key, value in self._waiting.items() if value[1] > answered}
        self._retry_at = 0

    def _passed(self, record: RunRecord) -> None:
        self._metrics.set("training_success_timestamp_seconds", record.finished_at / 1e3)

    def _complete(self, current: Current) -> RunRecord | None:
        """Return the record of a run that needs nothing more: refused, or registered."""
        record = self._record(current)
        if record is None or record.state == "failed" or (record.passed and not record.stages):
            return None
        return record

    def _record(self, current: Current) -> RunRecord | None:
        path = run_records.file_of(current.run_id, self._state_dir)
        return run_records.load(path) if path.exists() else None

    def _failed(self, current: Current, ended: Ended) -> RunRecord:
        now, reason = self._clock.now_ms(), ended.reason or "it ended without a record"
        record = self._record(current)
        if record is not None and record.state == "failed" and ended.code > 0:
            return record
        if record is None or not record.passed:
            return run_records.failed(current.run_id, current.started_at, now, reason, "archive")
        return replace(
            record, state="failed", finished_at=now, reasons=(f"not registered: {reason}",)
        )

    def _write(self, journal: TrainingJournal) -> None:
        journals.save(journal, self._state_dir)
        self._journal = journal
