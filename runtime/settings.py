"""Every setting of every service, read once at start-up from FRAUD_* environment variables.

The table of settings in docs/settings.md is checked against this file by a test.
"""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import (
    Field,
    FilePath,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from runtime.duration import Duration
from schemas.card_numbers import MIN_KEY_BYTES
from schemas.currency import CurrencyTable
from schemas.errors import ConfigurationError
from schemas.manifest import BundleTrust
from schemas.topics import TopicSpec

Port = Annotated[int, Field(ge=0, le=65535)]
Positive = Annotated[int, Field(gt=0)]
MIN_AUDIT_KEEP: Final = Duration("365d")
RootPath = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$")]
"""A path without a slash at its end, or nothing."""


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
    kafka_certificate: FilePath | None = Field(
        None, description="certificate with which a client of Kafka proves who it is (PEM)"
    )
    kafka_key: FilePath | None = Field(None, description="private key of that certificate (PEM)")
    kafka_key_password: SecretStr | None = Field(
        None, description="password of that key, if it is encrypted"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = Field(
        "SCRAM-SHA-512", description="SASL mechanism, if the protocol has SASL"
    )
    kafka_username: str | None = Field(None, description="SASL user; the client id for OAUTHBEARER")
    kafka_password: SecretStr | None = Field(
        None, description="SASL password; the client secret for OAUTHBEARER"
    )
    kafka_token_url: str | None = Field(
        None,
        pattern=r"^https?://",
        description="token endpoint for OAUTHBEARER (client credentials grant)",
    )
    kafka_token_scope: str | None = Field(None, description="scope of such a token, if required")
    topic_prefix: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]*$",
        description="prefix of every topic, consumer group and Redis key",
    )
    partitions: Positive = Field(4, description="partitions of the topics keyed by card")
    replication: Positive = Field(1, description="replication factor of created topics")
    schema_registry_url: str | None = Field(
        None, description="Confluent schema registry; with it, its wire format is accepted too"
    )
    schema_registry_user: str | None = Field(
        None, description="user name for the schema registry, if it requires one"
    )
    schema_registry_password: SecretStr | None = Field(
        None, description="password for the schema registry"
    )
    redis_url: SecretStr = Field(
        SecretStr("redis://localhost:6379/0"), description="redis://, rediss:// or unix:// address"
    )
    redis_username: str | None = Field(None, description="Redis ACL user")
    redis_password: SecretStr | None = Field(None, description="Redis password")
    redis_ca: FilePath | None = Field(None, description="certificates to trust for rediss:// (PEM)")
    redis_timeout_ms: Positive = Field(
        5000, description="longest wait (ms) for an answer from Redis"
    )
    label_delay: Duration = Field(
        Duration("7d"), description="age at which a label counts as known (7d, 12h)"
    )
    base_currency: str = Field("EUR", pattern=r"^[A-Z]{3}$", description="currency of features")
    currency_rates: dict[str, float] = Field(
        default_factory=dict,
        description="JSON: base units for one unit of a currency; others are dead-lettered",
    )
    pan_hmac_key: SecretStr | None = Field(
        None, description="secret key (32 bytes or more) with which card numbers become tokens"
    )
    bundle_public_key: str | None = Field(
        None,
        pattern=r"^[0-9a-fA-F]{64}$",
        description="Ed25519 key (hex); model bundles must then be signed by it",
    )
    bundle_signing_key: FilePath | None = Field(
        None, description="its private key (PEM), with which the trainer signs bundles"
    )
    bundle_oldest: int = Field(
        0, ge=0, description="with it: bundles whose signature has a lower number are refused"
    )
    archive_url: str = Field(
        "var/archive", min_length=1, description="archive: a folder, or s3://bucket/path"
    )
    archive_s3_endpoint: str | None = Field(
        None, description="address of an S3-compatible store that is not Amazon's"
    )
    archive_s3_region: str = Field("us-east-1", description="its AWS region")
    archive_s3_key: SecretStr | None = Field(None, description="its access key id")
    archive_s3_secret: SecretStr | None = Field(None, description="its secret access key")
    archive_flush_rows: Positive = Field(
        100_000, description="rows of a table that are written to the archive in one commit"
    )
    archive_flush_after: Duration = Field(
        Duration("30s"), description="longest time that a row waits for such a commit"
    )
    archive_maintain_every: Duration = Field(
        Duration("6h"),
        description="how often the archiver compacts its tables and deletes old rows",
    )
    archive_keep: Duration = Field(
        Duration("400d"), description="age (event date) at which rows are deleted"
    )
    archive_keep_versions: Duration = Field(
        Duration("30d"), description="how long old versions of the tables stay readable"
    )
    alert_urls: SecretStr | None = Field(
        None, description="receivers of alerts: apprise URLs, separated by spaces"
    )
    monitor_precision: float = Field(
        0.85, gt=0, lt=1, description="precision of alerts below which a new model is requested"
    )
    monitor_labels: Positive = Field(
        50, description="labelled alerts that the monitor needs to judge precision"
    )
    monitor_psi: float = Field(0.25, gt=0, description="PSI above which a column has drifted")
    monitor_quiet: Duration = Field(
        Duration("6h"), description="time after a retrain request in which no other is made"
    )
    monitor_fresh: Duration = Field(
        Duration("24h"), description="time for which a new champion is guarded"
    )
    monitor_records: Positive = Field(
        2_000_000, description="approved decisions kept until their labels come; 70 bytes each"
    )
    monitor_clock: Literal["wall", "event"] = Field(
        "wall",
        description="event: the time of the newest decision counts as now, for replayed history",
    )
    online_every: Duration = Field(
        Duration("15m"), description="how often the online learner is evaluated and may publish"
    )
    online_stage: Literal["SHADOW", "CANARY", "CHAMPION"] = Field(
        "CHAMPION",
        description="stage of its adjustment once that is better; SHADOW: promotion by hand only",
    )
    online_share: float = Field(
        0.1, gt=0, le=1, description="share of the cards that such a canary scores"
    )
    online_margin: float = Field(
        0.002, ge=0, lt=1, description="AUC by which the adjustment must beat the champion"
    )
    online_frauds: int = Field(
        200, ge=20, le=1000, description="frauds over which it is judged; 1000 are remembered"
    )
    online_bound: float = Field(
        2.0, gt=0, le=10, description="largest change that it makes to the log-odds"
    )
    online_records: int = Field(
        500_000, ge=10_000, description="transactions kept until their labels come; 320 bytes each"
    )
    report_folder: Path | None = Field(
        None, description="folder of the monitor's daily HTML reports; unset: no reports"
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
    train_time: Duration = Field(Duration("2h"), description="longest time of a training run")
    train_memory_mb: Positive = Field(
        8192, description="resident memory (MB) at which a training run is ended"
    )
    train_nice: int = Field(
        20, ge=0, le=20, description="niceness of training; 20: only idle processor time"
    )
    approval: bool = Field(False, description="a person promotes; the trainer only registers")
    shadow_for: Duration = Field(Duration("2h"), description="how long a candidate is a shadow")
    canary_for: Duration = Field(
        Duration("2h"), description="how long it is then a canary, at least"
    )
    canary_decisions: Positive = Field(1000, description="decisions that it must make as a canary")
    canary_at_most: Duration = Field(
        Duration("24h"), description="how long it is a canary at most, even with fewer decisions"
    )
    canary_share: float = Field(
        0.1, gt=0, le=1, description="share of the cards that the canary scores"
    )
    database_url: SecretStr = Field(
        SecretStr("sqlite:///var/fraud.db"),
        description="SQLAlchemy address: decisions, cases, people, keys; postgresql+psycopg:// too",
    )
    store_keep: Duration = Field(
        Duration("400d"), description="age at which stored decisions and their policies are deleted"
    )
    case_keep: Duration = Field(
        Duration("400d"), description="age at which closed review cases are deleted, with notes"
    )
    audit_keep: Duration = Field(
        Duration("730d"), description="age at which audit entries are deleted; at least 365d"
    )
    tls_certificate: FilePath | None = Field(
        None, description="certificate of the gateway and the dashboard (PEM); unset: plain HTTP"
    )
    tls_key: FilePath | None = Field(None, description="private key of that certificate (PEM)")
    connections: Positive = Field(
        4096, description="connections to the gateway or the dashboard that may be open at a time"
    )
    connections_by_address: Positive = Field(
        512, description="of which from one IP address; trusted proxies are exempt"
    )
    api_host: str = Field("127.0.0.1", description="IP address on which the gateway listens")
    api_port: Port = Field(8000, description="its port; 0: any free port")
    api_root_path: RootPath = Field(
        "", description="sub-path under which a proxy serves the gateway, like /scoring"
    )
    api_deadline_ms: Positive = Field(
        100, description="deadline (ms) of a request that does not set its own"
    )
    api_body_kb: Positive = Field(64, description="largest body (KB) with one transaction")
    api_batch_kb: Positive = Field(16_384, description="largest body (KB) with a batch")
    api_rate: Positive = Field(
        5000, description="transactions per second that one API key may send"
    )
    api_rate_kb: Positive = Field(
        16_384, description="kilobytes of bodies per second that one API key may send"
    )
    api_rate_ms: Positive = Field(
        800, description="processing time (ms) per second that one API key may use"
    )
    api_keys_offline: Duration = Field(
        Duration("1h"), description="how long API keys stay valid while the database is away"
    )
    dashboard_host: str = Field(
        "127.0.0.1", description="IP address on which the dashboard listens"
    )
    dashboard_port: Port = Field(8050, description="its port; 0: any free port")
    dashboard_root_path: RootPath = Field(
        "", description="sub-path under which a proxy serves the dashboard, like /fraud"
    )
    dashboard_targets: dict[str, str] = Field(
        default_factory=dict,
        description='JSON: services whose /metrics it reads, {"scorer-1": "http://127.0.0.1:8082"}',
    )
    trusted_proxies: str = Field(
        "",
        pattern=r"^[0-9a-fA-F.:/, ]*$",
        description="IP addresses of trusted reverse proxies (X-Forwarded-For), comma-separated",
    )
    session_for: Duration = Field(Duration("12h"), description="how long a log-in lasts")
    case_claim: Duration = Field(
        Duration("15m"), description="time after which a claimed case is free again"
    )
    case_undo: Duration = Field(Duration("60s"), description="how long a verdict can be taken back")
    health_port: Port = Field(
        0, description="port of /healthz, /readyz and /metrics; 0: no health server"
    )
    health_host: str = Field(
        "127.0.0.1", description="IP address on which the health server listens"
    )
    worker_id: str | None = Field(
        None, description="fixed name of this process in its consumer group"
    )
    log_format: Literal["json", "console"] = Field("json", description="format of log lines")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="log level")

    @field_validator("currency_rates")
    @classmethod
    def _rates_make_a_table(cls, rates: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        try:
            CurrencyTable(info.data.get("base_currency", "EUR"), rates)
        except ConfigurationError as error:
            raise ValueError(str(error)) from error
        return rates

    @field_validator("pan_hmac_key")
    @classmethod
    def _key_cannot_be_guessed(cls, key: SecretStr | None) -> SecretStr | None:
        size = MIN_KEY_BYTES if key is None else len(key.get_secret_value().encode())
        if size < MIN_KEY_BYTES:
            raise ValueError(
                f"the key has {size} bytes, and {MIN_KEY_BYTES} are needed so that card numbers "
                "cannot be found by trying keys: make one with `openssl rand -hex 32`"
            )
        return key

    @field_validator("audit_keep")
    @classmethod
    def _audit_is_kept_a_year(cls, keep: Duration) -> Duration:
        if keep.ms < MIN_AUDIT_KEEP.ms:
            raise ValueError(f"{keep} is too short: the database refuses to delete younger entries")
        return keep

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies_are_addresses(cls, proxies: str) -> str:
        for each in filter(None, (part.strip() for part in proxies.split(","))):
            ipaddress.ip_network(each, strict=False)
        return proxies

    @property
    def retrain_minutes(self) -> tuple[int, ...]:
        """Minutes of the day (UTC) at which the daily runs are due, none for never."""
        if self.retrain_at == "never":
            return ()
        times = (text.split(":") for text in self.retrain_at.split(","))
        return tuple(sorted({60 * int(hour) + int(minute) for hour, minute in times}))

    @property
    def currencies(self) -> CurrencyTable:
        """The base currency and the rates of the others."""
        return CurrencyTable(self.base_currency, self.currency_rates)

    @property
    def pan_key(self) -> bytes | None:
        """The key with which card numbers are tokenised, if there is one."""
        key = self.pan_hmac_key
        return key.get_secret_value().encode() if key else None

    @property
    def bundle_trust(self) -> BundleTrust:
        """Which model bundles are accepted."""
        key = self.bundle_public_key
        return BundleTrust(
            public_key=None if key is None else bytes.fromhex(key), oldest=self.bundle_oldest
        )

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
