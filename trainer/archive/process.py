"""The process `python -m trainer archive`."""

from __future__ import annotations

from functools import partial
from typing import Any

from runtime.kafka.clients import KafkaConsumer
from runtime.kafka.protocols import TopicPartition
from runtime.kafka.reader import end_offsets, offset_bounds
from runtime.kafka.wire_format import PatientRegistry
from runtime.process import ServiceProcess
from runtime.settings import Settings
from schemas.errors import RegistryUnavailable
from schemas.topics import DECISIONS, FEATURES, LABELS
from trainer.archive.archiver import GROUP, SERVICE, Archiver, Decoding
from trainer.archive.delta_tables import TABLES, Archive
from trainer.archive.progress import Progress
from trainer.archive.upkeep import maintain_regularly


def run(settings: Settings, *, url: str | None = None, once: bool = False) -> dict[str, Any]:
    """Follow until SIGTERM or SIGINT or, if `once`, to the present ends; return a report.

    Call it in the main thread.

    Raises:
        ConfigurationError: the archive or the topics are not what the settings say.
    """
    with ServiceProcess(SERVICE, settings) as process:
        archive = Archive.from_settings(settings, url)
        process.create_topics()
        archive.create()
        topics = dict(zip(TABLES, map(settings.topic, (FEATURES, DECISIONS, LABELS)), strict=True))
        archiver = Archiver(
            archive,
            topics=topics,
            decoding=Decoding(
                settings.currencies,
                settings.pan_key,
                PatientRegistry.from_settings(settings, process.retry(RegistryUnavailable)),
            ),
            bounds=lambda topic: offset_bounds(settings, topic),
            clock=process.clock,
            metrics=process.metrics,
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

        def ends() -> dict[TopicPartition, int]:
            return {
                TopicPartition(topic, number): end
                for topic in topics.values()
                for number, end in end_offsets(settings, topic).items()
            }

        def not_ready() -> str:
            return archiver.waiting_for or ("" if archiver.read else "no partitions yet")

        progress = Progress(lambda: archiver.read, process.patiently(ends) if once else {})
        if not once:
            process.in_background(
                "upkeep", partial(maintain_regularly, settings, url, process.clock)
            )
        process.started(not_ready, archive=archive.url, once=once)
        archiver.run(join, progress.finished, process.stop)
    counts, seconds = archiver.counts, progress.seconds
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
