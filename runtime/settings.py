"""Every setting of every service, read once at start-up from FRAUD_* environment variables.

The table of settings in docs/settings.md is checked against this file by a test.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, FilePath, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from schemas.errors import ConfigurationError
from schemas.topics import TopicSpec

Port = Annotated[int, Field(ge=0, le=65535)]
Positive = Annotated[int, Field(gt=0)]
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class Settings(BaseSettings):
    """All settings, frozen; secrets are masked in its text."""

    model_config = SettingsConfigDict(
        env_prefix="FRAUD_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    bootstrap: str = Field("localhost:9092", description="Kafka bootstrap servers")
    kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="Kafka security protocol"
    )
    kafka_ca: FilePath | None = Field(None, description="certificates to trust for Kafka (PEM)")
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="SASL mechanism, if the protocol has SASL"
    )
    kafka_username: str | None = Field(None, description="SASL user")
    kafka_password: SecretStr | None = Field(None, description="SASL password")
    topic_prefix: str = Field(
        "", pattern=r"^[A-Za-z0-9._-]*$", description="in front of every topic, group and Redis key"
    )
    partitions: Positive = Field(4, description="partitions of the topics keyed by card")
    replication: Positive = Field(1, description="replication factor of created topics")
    schema_registry_url: str | None = Field(
        None, description="Confluent schema registry; with it, its wire format is accepted too"
    )
    schema_registry_user: str | None = Field(None, description="user of the registry, if it asks")
    schema_registry_password: SecretStr | None = Field(None, description="its password")
    redis_url: SecretStr = Field(
        SecretStr("redis://localhost:6379/0"), description="redis://, rediss:// or unix:// address"
    )
    redis_username: str | None = Field(None, description="Redis ACL user")
    redis_password: SecretStr | None = Field(None, description="Redis password")
    redis_ca: FilePath | None = Field(None, description="certificates to trust for rediss:// (PEM)")
    redis_timeout_ms: Positive = Field(5000, description="longest wait for an answer of Redis")
    label_delay: str = Field("7d", description="delay after which labels count as known (7d, 12h)")
    base_currency: str = Field("EUR", pattern=r"^[A-Z]{3}$", description="currency of features")
    currency_rates: dict[str, float] = Field(
        default_factory=dict,
        description="JSON: base units for one unit of a currency; others are dead-lettered",
    )
    pan_hmac_key: SecretStr | None = Field(None, description="key to tokenise card numbers (PANs)")
    bundle_public_key: str | None = Field(
        None,
        pattern=r"^[0-9a-fA-F]{64}$",
        description="Ed25519 key (hex); model bundles must then be signed by it",
    )
    archive_url: str = Field(
        "var/archive", min_length=1, description="archive: a folder, or s3://bucket/path"
    )
    archive_s3_endpoint: str | None = Field(
        None, description="address of an S3-compatible store that is not Amazon's"
    )
    archive_s3_region: str = Field("us-east-1", description="its region")
    archive_s3_key: SecretStr | None = Field(None, description="its access key id")
    archive_s3_secret: SecretStr | None = Field(None, description="its secret access key")
    archive_flush_rows: Positive = Field(
        100_000, description="rows of a table that are written to the archive at once"
    )
    archive_flush_after: str = Field("30s", description="longest time a row waits for that")
    archive_maintain_every: str = Field(
        "6h", description="how often the archiver compacts and deletes what is too old"
    )
    archive_keep: str = Field("400d", description="age (event date) at which rows are deleted")
    archive_keep_versions: str = Field(
        "30d", description="how long old versions of the tables can be read again"
    )
    alert_urls: SecretStr | None = Field(
        None, description="who is told of alerts: apprise addresses, separated by spaces"
    )
    monitor_precision: float = Field(
        0.85, gt=0, lt=1, description="precision of alerts below which a new model is asked for"
    )
    monitor_labels: Positive = Field(
        50, description="labelled alerts by which the monitor judges precision"
    )
    monitor_psi: float = Field(0.25, gt=0, description="PSI above which a column has drifted")
    monitor_quiet: str = Field("6h", description="after a retrain request, none for so long")
    monitor_fresh: str = Field("24h", description="a new champion is guarded for so long")
    monitor_records: Positive = Field(
        2_000_000, description="approved decisions that wait for labels; 70 bytes each"
    )
    monitor_clock: Literal["wall", "event"] = Field(
        "wall", description="event: its time is that of the newest decision, for replayed history"
    )
    online_every: str = Field(
        "15m", description="how often the online learner is compared and publishes"
    )
    online_stage: Literal["SHADOW", "CANARY", "CHAMPION"] = Field(
        "CHAMPION", description="where its adjustment goes when it is better; SHADOW: by hand only"
    )
    online_share: float = Field(0.1, gt=0, le=1, description="share of the cards of such a canary")
    online_margin: float = Field(
        0.002, ge=0, lt=1, description="AUC by which it must be better than the champion"
    )
    online_frauds: int = Field(
        200, ge=20, le=1000, description="frauds over which that is judged; 1000 are remembered"
    )
    online_bound: float = Field(
        2.0, gt=0, le=10, description="most that it adds to or takes from the log-odds"
    )
    online_records: int = Field(
        500_000, ge=10_000, description="its transactions that wait for labels; 320 bytes each"
    )
    report_folder: Path | None = Field(
        None, description="folder of the monitor's daily HTML reports; none without"
    )
    mlflow_tracking_uri: SecretStr | None = Field(
        default_factory=lambda: _standard_secret("MLFLOW_TRACKING_URI"),
        description="MLflow server of training runs; MLFLOW_TRACKING_URI is read too",
    )
    retrain_at: str = Field(
        "03:00",
        pattern=r"^(never|([01]\d|2[0-3]):[0-5]\d(,([01]\d|2[0-3]):[0-5]\d)*)$",
        description="times of day (UTC) of the trainer's daily runs, like 03:00,15:00; or never",
    )
    train_time: str = Field("2h", description="a training run is ended after so long")
    train_memory_mb: Positive = Field(
        8192, description="resident memory (MB) at which a training run is ended"
    )
    train_nice: int = Field(
        20, ge=0, le=20, description="niceness of training; 20: only idle processor time"
    )
    approval: bool = Field(False, description="a person promotes; the trainer only registers")
    shadow_for: str = Field("2h", description="a candidate is a shadow for so long")
    canary_for: str = Field("2h", description="and then a canary for so long at least")
    canary_decisions: Positive = Field(1000, description="and until it has made so many decisions")
    canary_at_most: str = Field("24h", description="or, with fewer, for so long")
    canary_share: float = Field(0.1, gt=0, le=1, description="share of the cards of that canary")
    database_url: SecretStr = Field(
        SecretStr("sqlite:///var/fraud.db"),
        description="SQLAlchemy address: decisions, cases, people, keys; postgresql+psycopg:// too",
    )
    store_keep: str = Field("400d", description="age at which stored decisions are deleted")
    tls_certificate: FilePath | None = Field(
        None, description="certificate of gateway and dashboard (PEM); without it, plain HTTP"
    )
    tls_key: FilePath | None = Field(None, description="its private key (PEM)")
    api_host: str = Field("127.0.0.1", description="address the gateway listens on")
    api_port: Port = Field(8000, description="its port; 0: any free one")
    api_deadline_ms: Positive = Field(
        100, description="a request without a deadline of its own is answered after so long"
    )
    api_body_kb: Positive = Field(64, description="largest body of one transaction")
    api_batch_kb: Positive = Field(16_384, description="largest body of a batch")
    api_rate: Positive = Field(5000, description="transactions a second that one key may send")
    dashboard_host: str = Field("127.0.0.1", description="address the dashboard listens on")
    dashboard_port: Port = Field(8050, description="its port; 0: any free one")
    dashboard_targets: dict[str, str] = Field(
        default_factory=dict,
        description='JSON: the /metrics that it reads, {"scorer-1": "http://127.0.0.1:8082"}',
    )
    trusted_proxies: str = Field(
        "",
        pattern=r"^[0-9a-fA-F.:/, ]*$",
        description="reverse proxies (addresses, commas between) whose X-Forwarded-For counts",
    )
    session_for: str = Field("12h", description="a log-in ends after so long")
    case_claim: str = Field("15m", description="a claimed case is free again after so long")
    case_undo: str = Field("60s", description="a verdict can be taken back for so long")
    health_port: Port = Field(0, description="port of /healthz, /readyz, /metrics; 0: none")
    health_host: str = Field("127.0.0.1", description="address the health server listens on")
    worker_id: str | None = Field(None, description="fixed name of this process in its group")
    log_format: Literal["json", "console"] = Field("json", description="form of log lines")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="log level")

    @field_validator(
        "label_delay",
        "archive_flush_after",
        "archive_maintain_every",
        "archive_keep",
        "archive_keep_versions",
        "monitor_quiet",
        "monitor_fresh",
        "online_every",
        "train_time",
        "shadow_for",
        "canary_for",
        "canary_at_most",
        "store_keep",
        "session_for",
        "case_claim",
        "case_undo",
    )
    @classmethod
    def _is_duration(cls, text: str) -> str:
        duration_ms(text)
        return text

    @field_validator("currency_rates")
    @classmethod
    def _rates_are_positive(cls, rates: dict[str, float]) -> dict[str, float]:
        for currency, rate in rates.items():
            if not 0 < rate < float("inf"):
                raise ValueError(f"the rate of {currency} must be a positive number")
        return rates

    @property
    def label_delay_ms(self) -> int:
        """Label delay in ms."""
        return duration_ms(self.label_delay)

    @property
    def archive_flush_after_s(self) -> float:
        """Longest time a row waits to be written, in seconds."""
        return duration_ms(self.archive_flush_after) / 1000

    @property
    def archive_maintain_every_s(self) -> float:
        """Time between two rounds of the archive's upkeep, in seconds."""
        return duration_ms(self.archive_maintain_every) / 1000

    @property
    def archive_keep_ms(self) -> int:
        """Age at which archived rows are deleted, in ms."""
        return duration_ms(self.archive_keep)

    @property
    def archive_keep_versions_ms(self) -> int:
        """How long old versions can be read again, in ms."""
        return duration_ms(self.archive_keep_versions)

    @property
    def monitor_quiet_ms(self) -> int:
        """Quiet after a retrain request in ms."""
        return duration_ms(self.monitor_quiet)

    @property
    def monitor_fresh_ms(self) -> int:
        """Age up to which a champion is guarded, in ms."""
        return duration_ms(self.monitor_fresh)

    @property
    def online_every_s(self) -> float:
        """Time between two comparisons of the online learner, in seconds."""
        return duration_ms(self.online_every) / 1000

    @property
    def retrain_minutes(self) -> tuple[int, ...]:
        """Minutes of the day (UTC) at which the daily runs are due, none for never."""
        if self.retrain_at == "never":
            return ()
        times = (text.split(":") for text in self.retrain_at.split(","))
        return tuple(sorted({60 * int(hour) + int(minute) for hour, minute in times}))

    @property
    def train_time_ms(self) -> int:
        """Longest time of a training run in ms."""
        return duration_ms(self.train_time)

    @property
    def shadow_for_ms(self) -> int:
        """Time of a candidate as shadow in ms."""
        return duration_ms(self.shadow_for)

    @property
    def canary_for_ms(self) -> int:
        """Least time of a candidate as canary in ms."""
        return duration_ms(self.canary_for)

    @property
    def canary_at_most_ms(self) -> int:
        """Time after which a canary with few decisions is promoted, in ms."""
        return duration_ms(self.canary_at_most)

    @property
    def store_keep_ms(self) -> int:
        """Age at which stored decisions are deleted, in ms."""
        return duration_ms(self.store_keep)

    @property
    def session_for_ms(self) -> int:
        """Longest time of a log-in in ms."""
        return duration_ms(self.session_for)

    @property
    def case_claim_ms(self) -> int:
        """Time after which a claimed case is free again, in ms."""
        return duration_ms(self.case_claim)

    @property
    def case_undo_ms(self) -> int:
        """Time for which a verdict can be taken back, in ms."""
        return duration_ms(self.case_undo)

    @property
    def key_prefix(self) -> bytes:
        """What stands in front of every Redis key."""
        return self.topic_prefix.encode()

    def topic(self, spec: TopicSpec) -> str:
        """Return the name of a topic on the broker."""
        return spec.full_name(self.topic_prefix)

    def group(self, name: str) -> str:
        """Return the name of a consumer group on the broker."""
        return self.topic_prefix + name


def _standard_secret(variable: str) -> SecretStr | None:
    value = os.environ.get(variable)
    return SecretStr(value) if value else None


def duration_ms(text: str) -> int:
    """Return a duration like 7d or 500ms in ms; raises ValueError for anything else."""
    for unit in ("ms", "s", "m", "h", "d"):
        number = text.removesuffix(unit)
        if number != text and number.isdigit():
            return int(number) * _UNITS_MS[unit]
    raise ValueError("write a whole number and a unit: 7d, 12h, 30m, 45s or 500ms")


def load_settings(**overrides: object) -> Settings:
    """Read the environment; `overrides` (field names) win.

    Raises:
        ConfigurationError: names every variable that is wrong, and why.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except SettingsError as error:  # raised before any value is checked, hence alone
        named = re.search(r'field "(\w+)"', str(error))
        name = f"FRAUD_{named.group(1).upper()}" if named else "a setting"
        raise ConfigurationError(
            f'wrong settings:\n  {name}: not JSON, write {{"name": value}}'
        ) from error
    except ValidationError as error:
        wrong = [
            f"FRAUD_{'_'.join(str(part) for part in item['loc']).upper()}: {item['msg']}"
            for item in error.errors()
        ]
        raise ConfigurationError("wrong settings:\n  " + "\n  ".join(wrong)) from error
