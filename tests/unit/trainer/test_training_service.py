"""What is due is run once, joined, recorded and committed, whatever breaks off in between."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runtime.clock import ManualClock
from runtime.kafka.memory import MemoryBroker, MemoryConsumer
from runtime.kafka.protocols import TopicPartition
from runtime.metrics import Metrics, read_exposition
from schemas.codec import avro
from schemas.errors import ConfigurationError
from schemas.features import DAY, HOUR
from trainer.service import training_journal
from trainer.service.schedule import last_due
from trainer.service.training_child import Ended
from trainer.service.training_service import TrainingService
from trainer.training import run_records

TOPIC = "retrain-requests"
THREE = (3 * 60,)
MIDNIGHT = 20_000 * DAY


class FakeRunner:
    """Starts nothing; a run ends when it is told how."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: Ended | None = None
        self.stopped = 0

    def start(self, run_id: str) -> None:
        self.started.append(run_id)

    def poll(self) -> Ended | None:
        ended, self.ended = self.ended, None
        return ended

    def stop(self) -> None:
        self.stopped += 1


class Bench:
    """A service on a broker in memory; `restart` is what a kill leaves."""

    def __init__(self, folder: Path, minutes: tuple[int, ...] = ()) -> None:
        self.folder, self.minutes = folder, minutes
        self.clock = ManualClock(MIDNIGHT)
        self.broker = MemoryBroker(1, self.clock)
        self.runner = FakeRunner()
        self.spooled: list[run_records.RunRecord] = []
        self.restart()

    def restart(self) -> None:
        self.runner.ended = None
        self.metrics = Metrics("trainer")
        self.consumer = MemoryConsumer(self.broker, "trainer", [TOPIC])
        self.service = TrainingService(
            self.runner, self.folder, self.minutes, clock=self.clock, metrics=self.metrics,
            recorded=self.spooled.append,
        )  # fmt: skip

    def ask(self, reason: str = "drift") -> None:
        record = {"reason": reason, "detail": {}, "occurred_at": self.clock.now_ms()}
        self.broker.append(TOPIC, (0, reason.encode(), avro.encode("RetrainRequest", record)))

    def turn(self, ms: int = 1000) -> None:
        self.clock.advance(ms)
        self.service.receive(self.consumer.poll_batch(500, 0.0))
        self.service.step()
        self.consumer.commit(self.service.commits())

    def finish(self, *, record: bool = True, code: int = 0, **changes: object) -> None:
        run_id = self.runner.started[-1]
        if record:
            passed = replace(
                run_records.failed(run_id, self.clock.now_ms(), self.clock.now_ms(), "", "archive"),
                state="passed", reasons=(), stages=("REGISTERED", "SHADOW"),
            )  # fmt: skip
            run_records.save(replace(passed, **changes), self.folder)  # type: ignore[arg-type]
        self.runner.ended = Ended(code, "" if code == 0 else f"code {code}")

    def committed(self) -> int | None:
        return next(iter(self.broker.committed.values()), None)

    def record(self) -> run_records.RunRecord:
        return run_records.load(run_records.file_of(self.runner.started[-1], self.folder))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "trainer")


def test_due_times_are_utc_and_the_newest_counts() -> None:
    minutes = (180, 900)
    assert last_due(minutes, MIDNIGHT + 3 * HOUR - 1) == MIDNIGHT - 9 * HOUR
    assert last_due(minutes, MIDNIGHT + 3 * HOUR) == MIDNIGHT + 3 * HOUR
    assert last_due(minutes, MIDNIGHT + 99 * DAY) == MIDNIGHT + 98 * DAY + 15 * HOUR
    assert last_due((), MIDNIGHT) is None


def test_once_a_day_and_a_day_that_was_missed_is_made_up_for_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, THREE)
    bench.turn()
    bench.turn(3 * HOUR - 2000)
    assert bench.runner.started == []
    bench.turn()
    bench.turn(HOUR)
    assert len(bench.runner.started) == 1
    bench.finish()
    bench.turn()
    bench.restart()
    bench.turn(HOUR)
    assert len(bench.runner.started) == 1
    bench.turn(5 * DAY)
    bench.finish()
    bench.turn()
    bench.turn()
    assert len(bench.runner.started) == 2


def test_requests_wait_for_each_other_and_are_committed_when_recorded(bench: Bench) -> None:
    bench.ask()
    bench.ask("precision")
    bench.turn()
    assert (len(bench.runner.started), bench.committed()) == (1, 0)
    for _ in range(3):
        bench.turn()
        bench.ask("manual")
    bench.turn()
    assert (len(bench.runner.started), bench.committed()) == (1, 0)
    bench.finish()
    bench.turn()
    assert (len(bench.runner.started), bench.committed()) == (2, 2)
    bench.finish()
    bench.turn()
    bench.turn(DAY)
    assert (len(bench.runner.started), bench.committed()) == (2, 5)
    assert b'fraud_training_runs_total{service="trainer",state="passed"} 2.0' in (
        bench.metrics.exposition()
    )


def test_a_commit_that_was_lost_repeats_nothing(bench: Bench) -> None:
    bench.ask()
    bench.turn()
    bench.finish()
    bench.turn()
    bench.broker.committed.clear()
    bench.restart()
    bench.turn(HOUR)
    assert (len(bench.runner.started), bench.committed()) == (1, 1)


def test_a_time_that_comes_while_a_run_is_under_way_has_a_run_of_its_own(tmp_path: Path) -> None:
    bench = Bench(tmp_path, THREE)
    bench.clock.advance(3 * HOUR - 5000)
    bench.ask()
    bench.turn()
    bench.turn(HOUR)
    bench.finish()
    bench.turn()
    assert len(bench.runner.started) == 2


def test_killed_in_mid_run_it_takes_up_the_same_run_and_answers_once(bench: Bench) -> None:
    bench.ask()
    bench.turn()
    bench.restart()
    bench.turn()
    bench.ask("later")
    bench.turn()
    first, again = bench.runner.started
    assert first == again
    bench.finish()
    bench.turn()
    assert len({*bench.runner.started}) == 2  # the later one
    assert bench.committed() == 1


@pytest.mark.parametrize("state", ["passed", "refused by gates", "refused by data check"])
def test_killed_after_the_record_it_runs_nothing_again(bench: Bench, state: str) -> None:
    bench.ask()
    bench.turn()
    bench.finish(state=state)
    bench.restart()
    bench.turn()
    bench.turn()
    assert (len(bench.runner.started), bench.committed()) == (1, 1)


def test_a_model_that_was_not_yet_registered_is_taken_up_again(bench: Bench) -> None:
    bench.ask()
    bench.turn()
    bench.finish(stages=())
    bench.restart()
    bench.turn()
    assert len(bench.runner.started) == 2


def test_a_run_that_takes_the_service_with_it_is_given_up(bench: Bench) -> None:
    bench.ask()
    for _ in range(3):
        bench.turn()
        bench.restart()
    bench.turn()
    assert len(bench.runner.started) == 3
    assert bench.record().state == "failed"
    assert bench.committed() == 1


def test_an_orderly_stop_ends_the_run_and_is_not_held_against_it(bench: Bench) -> None:
    bench.ask()
    for _ in range(5):
        bench.turn()
        bench.service.stop()
        bench.restart()
    bench.turn()
    assert bench.runner.stopped == 5
    assert len(bench.runner.started) == 6


def test_a_run_that_was_ended_is_recorded_as_failed_and_answers(bench: Bench) -> None:
    bench.ask()
    bench.turn()
    bench.finish(record=False, code=-9)
    bench.turn()
    assert (bench.record().state, bench.record().reasons) == ("failed", ("code -9",))
    assert [record.state for record in bench.spooled] == ["failed"]
    bench.turn(DAY)
    assert (len(bench.runner.started), bench.committed()) == (1, 1)


def test_what_may_succeed_later_is_tried_again_under_the_same_id(bench: Bench) -> None:
    bench.ask()
    bench.turn()
    bench.finish(record=False, code=3)
    bench.turn()
    bench.turn(59_000)
    assert (len(bench.runner.started), bench.committed()) == (1, 0)
    for _ in range(19):
        bench.turn(600_000)
        bench.finish(stages=(), code=3)
        bench.turn()
    assert len({*bench.runner.started}) == 1
    assert len(bench.runner.started) == 20
    assert bench.record().state == "failed"
    assert bench.record().reasons == ("not registered: code 3",)
    assert bench.committed() == 1


def test_what_is_not_a_request_is_passed_over(bench: Bench) -> None:
    bench.broker.append(TOPIC, (0, b"x", b"noise"))
    bench.broker.append(TOPIC, (0, b"x", None))
    bench.turn()
    assert (bench.runner.started, bench.committed()) == ([], 2)


def test_a_journal_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / training_journal.FILE).write_text("{}")
    with pytest.raises(ConfigurationError, match=r"service\.json"):
        training_journal.load(tmp_path)


def test_a_service_that_starts_anew_knows_when_a_run_last_passed(bench: Bench) -> None:
    def last() -> list[float]:
        text = bench.metrics.exposition().decode()
        name = "fraud_training_success_timestamp_seconds"
        return [value for found, _, value in read_exposition(text) if found == name]

    assert last() == []
    bench.ask()
    bench.turn()
    bench.finish()
    bench.turn()
    passed = last()
    bench.ask()
    bench.turn()
    bench.finish(state="refused by gates", stages=())
    bench.turn()
    bench.restart()
    assert last() == passed != []


PLACE = TopicPartition(TOPIC, 0)


def test_requests_of_a_partition_that_was_revoked_start_nothing_here(bench: Bench) -> None:
    bench.ask()
    bench.service.receive(bench.consumer.poll_batch(500, 0.0))
    bench.service.revoked([PLACE])
    bench.service.step()
    assert bench.runner.started == []
    assert bench.service.commits() == {}


def test_a_partition_that_comes_back_is_committed_again(bench: Bench) -> None:
    bench.ask()
    bench.turn()
    assert (len(bench.runner.started), bench.committed()) == (1, 0)
    bench.service.revoked([PLACE])
    assert bench.service.commits() == {}, "it is another's"
    bench.service.receive(bench.broker.log(PLACE))
    assert bench.service.commits() == {PLACE: 0}
    bench.finish()
    bench.turn()
    assert (len(bench.runner.started), bench.committed()) == (1, 1)
