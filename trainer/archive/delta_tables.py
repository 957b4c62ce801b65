"""The archive: every vector, decision and label event in Delta Lake tables, by event date (UTC).

The position of each Kafka partition stands in the same commit as its rows (the table's application
transactions), so the two cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from runtime.settings import Settings
from schemas.errors import ArchiveUnavailable, ConfigurationError, Fenced
from schemas.features import DAY, HOUR
from trainer.archive.table_rows import SCHEMAS

TABLES: Final = tuple(SCHEMAS)
PARTITION_BY: Final = "event_date"
KEEP_VERSIONS_MS: Final = 30 * DAY
_STATISTICS: Final = {
    "features": "event_time,source_partition,source_offset",
    "decisions": "event_time,source_partition,source_offset",
    "labels": "transaction_time,label_time",
}
_WRITER: Final = WriterProperties(compression="ZSTD")


class ArchivePosition(NamedTuple):
    """A number that an append moves from `before` (None: not there yet) to `after`."""

    app_id: str
    before: int | None
    after: int


class Archive:
    """The tables under one URL. Not for use by several threads at once.

    Args:
        url: a folder, or s3://bucket/path with what deltalake calls storage options.
        keep_versions_ms: how long an old version can be read again.
    """

    def __init__(
        self,
        url: str,
        storage_options: Mapping[str, str] | None = None,
        *,
        keep_versions_ms: int = KEEP_VERSIONS_MS,
    ) -> None:
        self.url = url.rstrip("/")
        self._options = dict(storage_options or {})
        self._keep_versions_ms = keep_versions_ms
        self._tables: dict[str, DeltaTable] = {}

    @classmethod
    def from_settings(cls, settings: Settings, url: str | None = None) -> Self:
        """Return the archive of the environment, or that of another `url`; opens nothing yet."""
        place = url or settings.archive_url
        options: dict[str, str] = {}
        if place.startswith(("s3://", "s3a://")):
            options = {"AWS_REGION": settings.archive_s3_region, "aws_conditional_put": "etag"}
            if settings.archive_s3_endpoint:
                options["AWS_ENDPOINT_URL"] = settings.archive_s3_endpoint
                if settings.archive_s3_endpoint.startswith("http://"):
                    options["AWS_ALLOW_HTTP"] = "true"
            if settings.archive_s3_key and settings.archive_s3_secret:
                options["AWS_ACCESS_KEY_ID"] = settings.archive_s3_key.get_secret_value()
                options["AWS_SECRET_ACCESS_KEY"] = settings.archive_s3_secret.get_secret_value()
        return cls(place, options, keep_versions_ms=settings.archive_keep_versions.ms)

    def create(self) -> None:
        """Create the tables that are not there yet, and the columns that older tables lack.

        Raises:
            ConfigurationError: the place cannot be written to.
        """
        for name in TABLES:
            try:
                if "://" not in self.url:
                    Path(self.url, name).mkdir(parents=True, exist_ok=True)
                self._tables[name] = DeltaTable.create(
                    self._uri(name),
                    SCHEMAS[name],
                    mode="ignore",
                    partition_by=PARTITION_BY,
                    storage_options=self._options,
                    configuration={
                        **self._durations(),
                        "delta.dataSkippingStatsColumns": _STATISTICS[name],
                    },
                )
                self._add_columns(name)
            except CommitFailedError:  # somebody else created it at the same time
                self._tables[name] = self._open(name)
            except (DeltaError, OSError) as error:
                raise ConfigurationError(
                    f"cannot create the archive at {self.url}: {error}; set FRAUD_ARCHIVE_URL "
                    "to a place that can be written to"
                ) from error

    def _add_columns(self, name: str) -> None:
        table = self._tables[name]
        held = {field.name for field in table.schema().fields}
        added = [field for field in SCHEMAS[name] if field.name not in held]
        if added:
            table.alter.add_columns(DeltaSchema.from_arrow(pa.schema(added)).fields)

    def versions(self) -> dict[str, int]:
        """Return the newest version of each table.

        Raises:
            ConfigurationError: there is no archive.
        """
        return {name: self._open(name).version() for name in TABLES}

    def positions(self, name: str, app_ids: Iterable[str]) -> dict[str, int | None]:
        """Read the table's log again and return these positions; None if never written.

        Raises:
            ArchiveUnavailable: the storage failed.
        """
        table = self._tables[name] = self._open(name)
        return {app_id: self._position(table, name, app_id) for app_id in app_ids}

    def append(self, name: str, rows: pa.Table, positions: Sequence[ArchivePosition]) -> None:
        """Write rows and positions as one; rows may be none. Blocks.

        Raises:
            Fenced: another writer has moved one of the positions; nothing was written.
            ArchiveUnavailable: the storage failed; nothing was written, as far as is known. If it
                was, the next call is Fenced.
        """
        table = self._tables.get(name) or self.refreshed(name)
        for app_id, before, _ in positions:
            if self._position(table, name, app_id) != before:
                raise Fenced(f"table {name}: {app_id} is no longer at {before}")
        steps = [Transaction(app_id, after) for app_id, _, after in positions]
        try:
            write_deltalake(
                table,
                rows,
                mode="append",
                writer_properties=_WRITER,
                commit_properties=CommitProperties(app_transactions=steps),
            )
        except CommitFailedError as error:
            if "concurrent transaction" in str(error).lower():
                raise Fenced(f"table {name}: another archiver has read on") from error
            raise ArchiveUnavailable(f"table {name} took no rows: {error}") from error
        except (DeltaError, OSError) as error:
            raise ArchiveUnavailable(f"table {name} took no rows: {error}") from error

    def refreshed(self, name: str) -> DeltaTable:
        """Open the newest version of a table for `append`."""
        table = self._tables[name] = self._open(name)
        return table

    def read(
        self,
        name: str,
        *,
        version: int | None = None,
        columns: Sequence[str] | None = None,
        where: Any = None,
    ) -> pa.Table:
        """Return rows of a table, in no order; a column that its version lacks is null.

        `where` is a pyarrow expression over columns that every version has.

        Raises:
            ConfigurationError: no archive, or the version is gone.
            ArchiveUnavailable: the storage failed.
        """
        table = self._open(name, version)
        try:
            rows = table.to_pyarrow_dataset()
            if columns is None:
                return rows.to_table(filter=where)
            chosen = [column for column in columns if column in rows.schema.names]
            found = rows.to_table(columns=chosen, filter=where)
            for column in columns:
                if column not in chosen:
                    kind = SCHEMAS[name].field(column).type
                    found = found.append_column(column, pa.nulls(found.num_rows, kind))
            return found.select(list(columns))
        except FileNotFoundError as error:
            raise self._gone(name, table.version()) from error
        except (DeltaError, OSError) as error:
            raise ArchiveUnavailable(f"cannot read table {name}: {error}") from error

    def compact(self, name: str) -> tuple[int, int]:
        """Merge small files; return how many were removed and added. Old versions stay readable.

        Raises:
            ArchiveUnavailable: the storage failed, or another one maintained at the same time.
        """
        try:
            done = self._open(name).optimize.compact(
                max_concurrent_tasks=1, writer_properties=_WRITER
            )
        except (DeltaError, OSError) as error:
            raise ArchiveUnavailable(f"table {name} was not compacted: {error}") from error
        return int(done["numFilesRemoved"]), int(done["numFilesAdded"])

    def retain(self, name: str, *, now_ms: int, keep_ms: int) -> tuple[int, int]:
        """Delete rows of event dates older than `keep_ms` and files that only old versions need.

        Returns how many files rows were taken out of and how many are gone for good.

        Raises:
            ArchiveUnavailable: as `compact`.
        """
        oldest = (
            datetime.fromtimestamp(now_ms / 1000, UTC) - timedelta(milliseconds=keep_ms)
        ).date()
        try:
            table = self._open(name)
            wanted = self._durations()
            if any(table.metadata().configuration.get(key) != text for key, text in wanted.items()):
                table.alter.set_table_properties(wanted)
            removed = table.delete(f"{PARTITION_BY} < '{oldest.isoformat()}'")["num_removed_files"]
            # full: also files that a writer left behind when it was killed before its commit.
            gone = table.vacuum(
                retention_hours=max(self._keep_versions_ms // HOUR, 1),
                dry_run=False,
                enforce_retention_duration=False,
                full=True,
            )
            table.create_checkpoint()
            table.cleanup_metadata()
        except (DeltaError, OSError) as error:
            raise ArchiveUnavailable(f"table {name} was not trimmed: {error}") from error
        return int(removed), len(gone)

    def _durations(self) -> dict[str, str]:
        hours = max(self._keep_versions_ms // HOUR, 1)
        names = ("delta.logRetentionDuration", "delta.deletedFileRetentionDuration")
        return dict.fromkeys(names, f"interval {hours} hours")

    def _uri(self, name: str) -> str:
        return f"{self.url}/{name}"

    def _open(self, name: str, version: int | None = None) -> DeltaTable:
        try:
            return DeltaTable(self._uri(name), version=version, storage_options=self._options)
        except TableNotFoundError as error:
            raise self._absent(name) from error
        except (DeltaError, OSError) as error:
            if version is None:
                raise ArchiveUnavailable(f"cannot open table {name}: {error}") from error
            newest = self._open(name).version()
            if version > newest:
                raise ConfigurationError(
                    f"table {name} of {self.url} has no version {version}: the newest is {newest}; "
                    "is it another archive?"
                ) from error
            raise self._gone(name, version) from error

    def _position(self, table: DeltaTable, name: str, app_id: str) -> int | None:
        """Return a position of an opened table; it reads files of its log."""
        try:
            return table.transaction_version(app_id)
        except (DeltaError, OSError) as error:
            raise ArchiveUnavailable(f"cannot read how far table {name} is: {error}") from error

    def _absent(self, name: str) -> ConfigurationError:
        return ConfigurationError(
            f"no archive at {self.url} (no table {name}): start `python -m trainer archive`, or "
            "set FRAUD_ARCHIVE_URL to where it is"
        )

    def _gone(self, name: str, version: int) -> ConfigurationError:
        days = self._keep_versions_ms / DAY
        return ConfigurationError(
            f"version {version} of table {name} in {self.url} is gone: old versions are kept for "
            f"{days:g} days, FRAUD_ARCHIVE_KEEP_VERSIONS says how long"
        )
