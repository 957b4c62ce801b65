"""The archive's upkeep: small files are merged, and rows that are too old are deleted."""

from __future__ import annotations

import threading
import time
from typing import Any

import structlog

from runtime.clock import Clock
from runtime.settings import Settings
from schemas.errors import ArchiveUnavailable, ConfigurationError
from trainer.archive.delta_tables import TABLES, Archive

log = structlog.get_logger(__name__)


def maintain(archive: Archive, *, now_ms: int, keep_ms: int) -> dict[str, Any]:
    """Compact each table, delete its old rows, and return what was done by table. Blocks.

    Raises:
        ArchiveUnavailable: the storage failed, or another process changed the table meanwhile.
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


def maintain_regularly(
    settings: Settings, url: str | None, clock: Clock, ended: threading.Event
) -> None:
    """Maintain the archive every FRAUD_ARCHIVE_MAINTAIN_EVERY until `ended`; log failures."""
    archive = Archive.from_settings(settings, url)
    while not ended.wait(settings.archive_maintain_every.s):
        try:
            done = maintain(archive, now_ms=clock.now_ms(), keep_ms=settings.archive_keep.ms)
            log.info("maintained", **done)
        except (ArchiveUnavailable, ConfigurationError) as error:
            log.warning("not maintained; the next round tries again", reason=str(error))
