"""The archiver on Kafka in memory: each row once, whatever stops it and whoever else writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runtime.clock import ManualClock
from runtime.kafka.memory import MemoryBroker, MemoryConsumer
from runtime.kafka.protocols import Message, TopicPartition
from runtime.metrics import Metrics
from runtime.process import StopSignal
from schemas.errors import ArchiveUnavailable, ConfigurationError, Fenced, MembershipLost
from schemas.features import DAY
from tests.support.trainer.archive_messages import (
    DECODING,
    START,
    decision,
    feature,
    filled,
    label,
    records,
)
from trainer.archive.archiver import GROUP, Archiver
from trainer.archive.delta_tables import TABLES, Archive, ArchivePosition
from trainer.archive.table_rows import SCHEMAS

TOPICS = {name: name for name in TABLES}


class Bench:
    """A broker in memory and archivers on one archive."""

    def __init__(self, tmp_path: Path) -> None:
        self.url = str(tmp_path / "archive")
        self.broker = MemoryBroker(partitions=2)
        self.deleted = 0
        """Messages at the beginning of each partition that Kafka has deleted."""
        Archive(self.url).create()

    def send(self, *messages: Message) -> None:
        for message in messages:
            self.broker.append(message.topic, (message.partition, message.key, message.value))

    def archiver(
        self, archive: Archive | None = None, flush_rows: int = 100, **options: Any
    ) -> Archiver:
        return Archiver(
            archive or Archive(self.url),
            topics=TOPICS,
            decoding=DECODING,
            bounds=lambda topic: {
                n: (self.deleted, len(self.broker.log(TopicPartition(topic, n)))) for n in range(2)
            },
            clock=ManualClock(START),
            metrics=Metrics("test"),
            flush_rows=flush_rows,
            **options,
        )

    def consumer(self, archiver: Archiver) -> MemoryConsumer:
        return MemoryConsumer(
            self.broker, GROUP, TABLES, on_assign=archiver.assigned, on_revoke=archiver.revoked
        )

    def follow(self, archiver: Archiver) -> None:
        """Read and write all there is."""
        ends = {place: len(self.broker.log(place)) for place in self.broker.places(TABLES)}
        archiver.run(
            lambda: self.consumer(archiver),
            lambda: archiver.read == ends,
            StopSignal(install=False),
        )

    def held(self, name: str) -> list[tuple[int, int]]:
        table = Archive(self.url).read(name, columns=["topic_partition", "topic_offset"])
        return [(row["topic_partition"], row["topic_offset"]) for row in records(table)]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_everything_is_archived_and_the_next_archiver_goes_on_behind_it(bench: Bench) -> None:
    bench.send(feature(0), feature(1), decision(0), label(0, 0), label(1, 0, fraud=False))
    bench.send(feature(0, partition=1))
    bench.follow(bench.archiver())
    bench.send(feature(2), decision(1))
    second = bench.archiver()
    bench.follow(second)
    assert second.counts.archived == {"features": 1, "decisions": 1, "labels": 0}
    assert bench.held("features") == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert bench.held("decisions") == [(0, 0), (0, 1)]
    assert bench.held("labels") == [(0, 0), (0, 1)]


def test_repeated_positions_are_archived_once_also_over_a_restart(bench: Bench) -> None:
    again = [feature(0), feature(1), feature(1), feature(0), feature(1), feature(2)]
    bench.send(*again)
    bench.follow(bench.archiver())
    bench.send(feature(2), feature(3))
    archiver = bench.archiver()
    bench.follow(archiver)
    found = Archive(bench.url).read("features", columns=["source_offset"])
    assert sorted(found.column("source_offset").to_pylist()) == [0, 1, 2, 3]
    assert archiver.counts.repeated["features"] == 1


def test_what_a_crash_leaves_unwritten_is_read_again(bench: Bench) -> None:
    bench.send(*(feature(n) for n in range(5)))
    crashed = bench.archiver(flush_rows=5)
    consumer = bench.consumer(crashed)
    crashed.step(consumer)
    bench.send(*(feature(n) for n in range(5, 8)))
    crashed.step(consumer)  # read, not written: fewer than five rows
    assert len(bench.held("features")) == 5
    bench.follow(bench.archiver())
    assert bench.held("features") == [(0, n) for n in range(8)]


def test_an_archiver_that_lost_its_partitions_is_fenced_and_begins_anew(bench: Bench) -> None:
    bench.send(feature(0), feature(1))
    zombie = bench.archiver()
    consumer = bench.consumer(zombie)
    zombie.step(consumer)
    bench.follow(bench.archiver())
    with pytest.raises(Fenced):
        zombie.flush(consumer)
    bench.follow(zombie)
    assert bench.held("features") == [(0, 0), (0, 1)]


def test_a_storage_that_fails_for_a_while_costs_no_row(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.send(feature(0), feature(1))
    archive = Archive(bench.url)
    append, calls = archive.append, []

    def failing(*args: object) -> None:
        calls.append(args)
        if len(calls) == 1:
            raise ArchiveUnavailable("no space left")
        append(*args)  # type: ignore[arg-type]
        if len(calls) == 2:
            raise ArchiveUnavailable("written, but no answer came")

    monkeypatch.setattr(archive, "append", failing)
    bench.follow(bench.archiver(archive))
    assert bench.held("features") == [(0, 0), (0, 1)]


def test_messages_that_cannot_be_read_are_counted_and_passed(bench: Bench) -> None:
    bench.send(feature(0)._replace(value=b"noise"), feature(1), decision(0)._replace(value=None))
    archiver = bench.archiver()
    bench.follow(archiver)
    assert archiver.counts.rejected == {"features": 1, "decisions": 1, "labels": 0}
    assert bench.held("features") == [(0, 1)]
    assert Archive(bench.url).positions("decisions", ["decisions/0"]) == {"decisions/0": 1}


def test_a_topic_made_anew_is_named(bench: Bench) -> None:
    Archive(bench.url).append(
        "features", DECODING.rows("features", []).table, [ArchivePosition("features/0", None, 9)]
    )
    with pytest.raises(ConfigurationError, match=r"features/0 was archived up to 9.*FRAUD_ARCHIVE"):
        bench.follow(bench.archiver())


def test_compaction_and_retention_keep_positions_and_old_versions(tmp_path: Path) -> None:
    archive = filled(str(tmp_path / "a"), features=[feature(0)])
    for n in (1, 2):
        rows = DECODING.rows("features", [feature(n, event_time=START + n * DAY // 2)]).table
        archive.append(
            "features", rows, [ArchivePosition("features/0", None if n == 1 else n, n + 1)]
        )
    before = archive.versions()["features"]
    assert archive.compact("features") == (2, 1)  # rows of one day came in two files
    assert archive.retain("features", now_ms=START + 3 * DAY, keep_ms=2 * DAY) == (1, 0)
    assert archive.positions("features", ["features/0"]) == {"features/0": 3}
    assert sorted(archive.read("features").column("source_offset").to_pylist()) == [1, 2]
    assert archive.read("features", version=before).num_rows == 3


def test_there_is_no_archive_and_no_such_version(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no archive at"):
        Archive(str(tmp_path / "none")).versions()
    archive = filled(str(tmp_path / "a"))
    with pytest.raises(ConfigurationError, match="no version 7"):
        archive.read("labels", version=7)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot create the archive"):
        Archive(str(tmp_path / "file")).create()


def test_a_folder_that_is_away_is_a_storage_that_fails(bench: Bench, tmp_path: Path) -> None:
    bench.send(feature(0))
    bench.follow(bench.archiver())
    opened = Archive(bench.url)
    written = opened.positions("features", ["0"])
    away = Path(bench.url).rename(tmp_path / "away")
    Path(bench.url).write_text("")
    with pytest.raises(ArchiveUnavailable):
        opened.append("features", SCHEMAS["features"].empty_table(), [ArchivePosition("0", 0, 1)])
    Path(bench.url).unlink()
    away.rename(bench.url)
    assert opened.positions("features", ["0"]) == written


PLACES = [TopicPartition("features", number) for number in range(2)]


def test_rows_that_wait_are_written_before_partitions_are_assigned_anew(bench: Bench) -> None:
    bench.send(feature(0), feature(1))
    archiver = bench.archiver()
    archiver.step(bench.consumer(archiver))
    assert bench.held("features") == []
    assert archiver.assigned(PLACES) == {PLACES[0]: 2, PLACES[1]: 0}
    assert bench.held("features") == [(0, 0), (0, 1)]
    bench.follow(archiver)
    assert bench.held("features") == [(0, 0), (0, 1)]


def test_an_assignment_does_not_hide_that_another_one_wrote_the_rows_that_wait(
    bench: Bench,
) -> None:
    bench.send(feature(0), feature(1))
    zombie = bench.archiver()
    zombie.step(bench.consumer(zombie))
    bench.follow(bench.archiver())
    with pytest.raises(Fenced):
        zombie.assigned(PLACES)
    assert bench.held("features") == [(0, 0), (0, 1)]


def test_rows_that_wait_are_written_before_a_partition_is_let_go(bench: Bench) -> None:
    bench.send(feature(0), feature(0, partition=1), decision(0))
    archiver = bench.archiver()
    archiver.step(bench.consumer(archiver))
    archiver.revoked([PLACES[1]])
    assert bench.held("features") == [(0, 0), (1, 0)]
    assert PLACES[0] in archiver.read
    assert PLACES[1] not in archiver.read
    other = bench.archiver()
    assert other.assigned([PLACES[1]]) == {PLACES[1]: 1}
    bench.send(feature(1))
    bench.follow(archiver)
    assert bench.held("features") == [(0, 0), (0, 1), (1, 0)]


def test_rows_that_could_not_be_written_before_letting_go_are_read_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.send(feature(0), feature(1))
    archive = Archive(bench.url)
    archiver = bench.archiver(archive)
    consumer = bench.consumer(archiver)
    archiver.step(consumer)

    def full(*_: object) -> None:
        raise ArchiveUnavailable("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(archive, "append", full)
        archiver.revoked(PLACES)
    with pytest.raises(MembershipLost, match=r"could not write features.*no space left"):
        archiver.step(consumer)
    bench.follow(archiver)
    assert bench.held("features") == [(0, 0), (0, 1)]


def test_a_few_rows_are_written_after_half_a_minute(bench: Bench) -> None:
    now = 1_000.0
    archiver = bench.archiver(monotonic=lambda: now)
    consumer = bench.consumer(archiver)
    bench.send(feature(0))
    archiver.step(consumer)
    now += 29.9
    bench.send(feature(1))
    archiver.step(consumer)
    assert bench.held("features") == []
    now += 0.1
    bench.send(feature(2))
    archiver.step(consumer)
    assert bench.held("features") == [(0, 0), (0, 1), (0, 2)]


def test_what_kafka_has_deleted_is_not_waited_for(bench: Bench) -> None:
    bench.send(*(feature(n) for n in range(5)))
    bench.deleted = 3
    assert bench.archiver().assigned(PLACES[:1]) == {PLACES[0]: 3}
    Archive(bench.url).append(
        "features", DECODING.rows("features", []).table, [ArchivePosition("features/0", None, 1)]
    )
    assert bench.archiver().assigned(PLACES[:1]) == {PLACES[0]: 3}


def test_each_partition_has_its_own_source_positions(bench: Bench) -> None:
    bench.send(*(feature(n) for n in range(5)), feature(0, partition=1))
    bench.follow(bench.archiver())
    bench.send(feature(1, partition=1), feature(5))
    bench.follow(bench.archiver())
    assert bench.held("features") == [*((0, n) for n in range(6)), (1, 0), (1, 1)]
