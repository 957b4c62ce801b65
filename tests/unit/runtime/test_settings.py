"""Settings: every one is documented, wrong ones are named together, secrets stay hidden."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from runtime.duration import Duration
from runtime.feature_store.redis import RedisFeatureStore
from runtime.settings import Settings, load_settings
from schemas.errors import ConfigurationError

TABLE = Path(__file__).parents[3] / "docs" / "settings.md"


def documented() -> dict[str, list[str]]:
    rows = [line for line in TABLE.read_text().splitlines() if line.startswith("| `FRAUD_")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {row[0].strip("`"): row[1:] for row in cells}


def shown(default: object) -> str:
    if default is None:
        return "–"
    value = default.get_secret_value() if isinstance(default, SecretStr) else default
    return f"`{value}`" if str(value) else "empty"


def test_the_table_in_the_docs_is_the_code() -> None:
    expected = {}
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        assert default is not PydanticUndefined
        expected[f"FRAUD_{name.upper()}"] = [shown(default), field.description]
    assert documented() == expected


def test_all_wrong_settings_are_named_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUD_PARTITIONS", "0")
    monkeypatch.setenv("FRAUD_LABEL_DELAY", "soon")
    monkeypatch.setenv("FRAUD_CURRENCY_RATES", '{"USD": -1}')
    with pytest.raises(ConfigurationError) as error:
        load_settings()
    text = str(error.value)
    for name in ("FRAUD_PARTITIONS", "FRAUD_LABEL_DELAY", "FRAUD_CURRENCY_RATES"):
        assert name in text


def test_rates_that_are_not_json_are_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUD_CURRENCY_RATES", "USD=0.92")
    with pytest.raises(ConfigurationError, match="FRAUD_CURRENCY_RATES: not JSON"):
        load_settings()


@pytest.mark.parametrize("rates", ['{"USD": 0}', '{"USD": NaN}', '{"USD": 1e10}', '{"US": 1}'])
def test_rates_are_checked_at_the_start(rates: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUD_CURRENCY_RATES", rates)
    with pytest.raises(ConfigurationError, match=r'FRAUD_CURRENCY_RATES: .*"USD": 0\.92'):
        load_settings()


def test_the_base_currency_is_one_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUD_BASE_CURRENCY", "XXX")
    with pytest.raises(ConfigurationError, match=r"XXX is not an ISO 4217 code"):
        load_settings()


@pytest.mark.parametrize("name", ["FRAUD_KAFKA_CA", "FRAUD_REDIS_CA"])
def test_certificates_must_be_there(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(name, str(tmp_path / "missing.pem"))
    with pytest.raises(ConfigurationError, match=name):
        load_settings()


def test_a_key_for_card_numbers_that_can_be_guessed_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FRAUD_PAN_HMAC_KEY", "k" * 31)
    with pytest.raises(ConfigurationError, match=r"FRAUD_PAN_HMAC_KEY.*31 bytes.*openssl rand"):
        load_settings()
    monkeypatch.setenv("FRAUD_PAN_HMAC_KEY", "k" * 32)
    assert load_settings().pan_key == b"k" * 32


def test_secrets_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = ("redis_password", "kafka_password", "pan_hmac_key")
    for name in secrets:
        monkeypatch.setenv(f"FRAUD_{name.upper()}", "example-of-a-secret-with-32-bytes")
    settings = load_settings(redis_url="redis://user:example-of-a-secret@localhost:6379/0")
    assert "example-of-a-secret" not in repr(settings) + str(settings)


@pytest.mark.parametrize(
    ("text", "ms"),
    [("7d", 604_800_000), ("12h", 43_200_000), ("500ms", 500), ("45s", 45_000), ("15m", 900_000)],
)
def test_durations(text: str, ms: int) -> None:
    assert load_settings(label_delay=text).label_delay.ms == ms


@pytest.mark.parametrize("text", ["", "7", "d", "1.5h", "-3s", "7 d", "2w"])
def test_a_wrong_duration_names_the_setting_and_the_remedy(text: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        load_settings(train_time=text)
    assert "FRAUD_TRAIN_TIME" in str(error.value)
    assert "write a whole number and a unit: 7d, 12h, 30m, 45s or 500ms" in str(error.value)


def test_a_duration_stays_the_text_that_was_written() -> None:
    delay = load_settings(train_time="90m").train_time
    assert (str(delay), delay.ms, delay.s) == ("90m", 5_400_000, 5400.0)


DEFAULTS_MS = {
    "label_delay": 604_800_000,
    "archive_keep": 34_560_000_000,
    "audit_keep": 63_072_000_000,
    "case_keep": 34_560_000_000,
    "archive_keep_versions": 2_592_000_000,
    "archive_flush_after": 30_000,
    "archive_maintain_every": 21_600_000,
    "monitor_quiet": 21_600_000,
    "monitor_fresh": 86_400_000,
    "online_every": 900_000,
    "train_time": 7_200_000,
    "shadow_for": 7_200_000,
    "canary_for": 7_200_000,
    "canary_at_most": 86_400_000,
    "store_keep": 34_560_000_000,
    "api_keys_offline": 3_600_000,
    "session_for": 43_200_000,
    "case_claim": 900_000,
    "case_undo": 60_000,
}


def test_each_duration_has_its_documented_default() -> None:
    settings = load_settings()
    found = {
        name: value.ms
        for name in type(settings).model_fields
        if isinstance(value := getattr(settings, name), Duration)
    }
    assert found == DEFAULTS_MS


def test_redis_is_waited_for_as_many_milliseconds_as_it_is_set_to() -> None:
    store = RedisFeatureStore.from_settings(load_settings(redis_timeout_ms=1500))
    options = store._redis.connection_pool.connection_kwargs
    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (1.5, 1.5)
