"""The process `python -m trainer archive`: puts its parts together and stops them in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final

import structlog

from runtime.clock import Clock, SystemClock
from runtime.health import HealthServer
from runtime.kafka.clients import KafkaConsumer
from runtime.kafka.protocols import TopicPartition
from runtime.kafka.reader import offset_bounds
from runtime.kafka.topic_admin import create_topics
from runtime.kafka.wire_format import ConfluentRegistry
from runtime.logs import configure_logging
from runtime.metrics import Metrics
from runtime.process import StopSignal, patiently
from runtime.settings import Settings
from schemas.currency import CurrencyTable
from schemas.errors import ArchiveUnavailable, ConfigurationError
from schemas.topics import DECISIONS, FEATURES, LABELS
from trainer.archive.archiver import GROUP, SERVICE, Archiver, Decoding
from trainer.archive.tables import TABLES, Archive

log = structlog.get_logger(__name__)
IDLE_S: Final = 5.0
"""Of `--once`: nothing came for so long, so the rest is in other archivers' hands, or no rows."""


def run(settings: Settings, *, url: str | None = None, once: bool = False) -> dict[str, Any]:
    """Follow until SIGTERM or SIGINT or, if `once`, to the ends as they are now; return a report.

    Call it in the main thread.

    Raises:
        ConfigurationError: the archive or the topics are not what the settings say.
    """
    configure_logging(settings, SERVICE)
    stop, metrics, clock = StopSignal(), Metrics(SERVICE), SystemClock()
    archive = Archive.from_settings(settings, url)
    topics = dict(zip(TABLES, map(settings.topic, (FEATURES, DECISIONS, LABELS)), strict=True))
    pan_key = settings.pan_hmac_key
    with ExitStack() as parts:
        patiently(lambda: create_topics(settings, timeout_s=3.0), stop)
        archive.create()
        archiver = Archiver(
            archive,
            topics=topics,
            decoding=Decoding(
                CurrencyTable(settings.base_currency, settings.currency_rates),
                pan_key.get_secret_value().encode() if pan_key else None,
                ConfluentRegistry.from_settings(settings),
            ),
            bounds=lambda topic: offset_bounds(settings, topic),
            clock=clock,
            metrics=metrics,
            flush_rows=settings.archive_flush_rows,
            flush_after_s=settings.archive_flush_after.s,
        )

        def join() -> KafkaConsumer:
            return KafkaConsumer(
                settings,
                settings.group(GROUP),
                list(topics.values()),
                on_assign=archiver.assigned,
                on_revoke=archiver.revoked,
                instance_id=settings.worker_id,
            )

        def not_ready() -> str:
            return archiver.waiting_for or ("" if archiver.read else "no partitions yet")

        if settings.health_port:
            parts.enter_context(
                HealthServer(settings.health_port, metrics, not_ready, host=settings.health_host)
            )
        progress = _Progress(archiver, settings, list(topics.values()) if once else [])
        if not once:
            parts.callback(_upkeep(settings, url, clock))
        log.info("started", archive=archive.url, once=once)
        archiver.run(join, progress.finished, stop)
    log.info("stopped")
    seconds = progress.seconds
    counts = archiver.counts
    return {
        "archive": archive.url,
        "archived": counts.archived,
        "repeated": counts.repeated,
        "rejected": counts.rejected,
        "commits": counts.commits,
        "seconds": seconds,
        "cpu_seconds": progress.cpu_seconds,
        "rows_per_second": {name: rows / seconds for name, rows in counts.archived.items()},
        "versions": archive.versions(),
    }


def maintain(archive: Archive, *, now_ms: int, keep_ms: int) -> dict[str, Any]:
    """Compact, delete what is too old, and return what was done by table.

    Raises:
        ArchiveUnavailable: the storage failed, or somebody else did it at the same time.
    """
    report: dict[str, Any] = {}
    for name in TABLES:
        began = time.perf_counter()
        removed, added = archive.compact(name)
        expired, vacuumed = archive.retain(name, now_ms=now_ms, keep_ms=keep_ms)
        report[name] = {
            "files_expired": expired,
            "files_merged": removed,
            "files_written": added,
            "files_deleted": vacuumed,
            "seconds": time.perf_counter() - began,
        }
    return report


class _Progress:
    """Tells when the archiver has reached the ends of `topics`; never, if there are none."""

    def __init__(self, archiver: Archiver, settings: Settings, topics: list[str]) -> None:
        self._archiver = archiver
        self._ends = {
            TopicPartition(topic, number): end
            for topic in topics
            for number, (_, end) in offset_bounds(settings, topic).items()
        }
        self._seen: dict[TopicPartition, int] = {}
        self._began = self._moved = time.monotonic()
        self._cpu = time.process_time()

    @property
    def seconds(self) -> float:
        """From the assignment of the first partitions until now."""
        return max(time.monotonic() - self._began, 1e-9)

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all threads in that time."""
        return time.process_time() - self._cpu

    def finished(self) -> bool:
        """Whether everything up to the ends was read."""
        read = self._archiver.read
        if not self._seen and read:
            self._began = self._moved = time.monotonic()
            self._cpu = time.process_time()
        if read != self._seen:
            self._seen, self._moved = read, time.monotonic()
        if not self._ends or not read:
            return False
        behind = [at for at, end in self._ends.items() if read.get(at, 0) < end]
        return not behind or time.monotonic() - self._moved > IDLE_S


def _upkeep(settings: Settings, url: str | None, clock: Clock) -> Callable[[], None]:
    """Maintain the archive every so often on a thread of its own; return what ends that."""
    stop = threading.Event()

    def work() -> None:
        archive = Archive.from_settings(settings, url)
        while not stop.wait(settings.archive_maintain_every.s):
            try:
                done = maintain(archive, now_ms=clock.now_ms(), keep_ms=settings.archive_keep.ms)
                log.info("maintained", **done)
            except (ArchiveUnavailable, ConfigurationError) as error:
                log.warning("not maintained; tries again next time", reason=str(error))

    thread = threading.Thread(target=work, name="upkeep", daemon=True)
    thread.start()

    def end() -> None:
        stop.set()
        thread.join(10.0)

    return end
