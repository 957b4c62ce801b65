"""Connections are counted before anything of them is read, and file handles suffice for them."""

from __future__ import annotations

import logging
import resource
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from runtime.metrics import Metrics
from runtime.repeated_lines import RepeatedLines, RepeatedRecords
from runtime.settings import load_settings
from runtime.web.connections import ConnectionLimits, raise_file_limit
from runtime.web.server import warn_of_plain_http
from schemas.errors import ConfigurationError


def limits(total: int = 100, by_address: int = 2, trusted: str = "") -> ConnectionLimits:
    return ConnectionLimits(total, by_address, trusted, Metrics("gateway"))


def test_an_address_has_so_many_connections_and_keeps_no_other_out() -> None:
    counted = limits()
    assert [counted.admit("192.0.2.7") for _ in range(3)] == [True, True, False]
    assert counted.admit("192.0.2.8")
    counted.release("192.0.2.7")
    assert [counted.admit("192.0.2.7") for _ in range(2)] == [True, False]


def test_all_addresses_together_have_so_many_connections() -> None:
    counted = limits(total=5)
    assert [counted.admit(f"192.0.2.{number}") for number in range(7)] == [True] * 5 + [False] * 2
    counted.release("192.0.2.3")
    assert counted.admit("192.0.2.100")


@pytest.mark.parametrize(
    ("first", "second", "one_place"),
    [
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
    ],
)
def test_an_ipv6_network_counts_as_one_address(first: str, second: str, one_place: bool) -> None:
    counted = limits(by_address=1)
    assert counted.admit(first)
    assert counted.admit(second) is not one_place


def test_the_clients_of_a_trusted_proxy_are_not_one_address() -> None:
    counted = limits(total=10, trusted="10.0.0.0/8, 2001:db8::7")
    for proxy in ("10.1.2.3", "2001:db8::7"):
        assert all(counted.admit(proxy) for _ in range(5))
    assert not counted.admit("10.1.2.3"), "but all together are"


def test_refused_connections_are_counted_and_do_not_flood_the_log() -> None:
    metrics = Metrics("gateway")
    counted = ConnectionLimits(1, 1, "", metrics)
    with capture_logs() as logs:
        for _ in range(500):
            counted.admit("192.0.2.7")
    value = metrics.registry.get_sample_value(
        "fraud_connections_refused_total", {"service": "gateway", "limit": "total"}
    )
    assert value == 499
    assert len(logs) == 1


def test_the_soft_limit_on_open_files_is_raised() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 500), hard))
    try:
        assert raise_file_limit() >= soft
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("host", "tls", "told"),
    [
        ("0.0.0.0", False, True),
        ("192.0.2.1", False, True),
        ("::", False, True),
        ("127.0.0.1", False, False),
        ("::1", False, False),
        ("0.0.0.0", True, False),
    ],
)
def test_plain_http_for_others_is_told(host: str, tls: bool, told: bool, tmp_path: Path) -> None:
    (tmp_path / "cert.pem").touch()
    settings = load_settings(**({"tls_certificate": tmp_path / "cert.pem"} if tls else {}))
    with capture_logs() as logs:
        warn_of_plain_http(host, settings)
    assert [each["host"] for each in logs] == ([host] if told else [])


def test_proxies_are_addresses() -> None:
    load_settings(trusted_proxies="10.0.0.0/8, 192.0.2.7,2001:db8::/32")
    with pytest.raises(ConfigurationError, match="FRAUD_TRUSTED_PROXIES"):
        load_settings(trusted_proxies="10.0.0.300")


@pytest.mark.parametrize(
    "path", ["/", "fraud", "/fraud/", "/a//b", "/..", "/a/../b", "/a b", "//x"]
)
def test_a_sub_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="FRAUD_DASHBOARD_ROOT_PATH"):
        load_settings(dashboard_root_path=path)


def test_a_line_comes_at_once_and_then_with_a_count() -> None:
    moments = iter((0.0, 1.0, 9.9, 10.0, 10.1, 30.0))
    lines = RepeatedLines(10.0, moments.__next__)
    assert [lines.due("a") for _ in range(6)] == [0, None, None, 2, None, 1]


def test_equal_records_of_a_library_are_written_once_and_errors_always() -> None:
    def record(text: str, error: bool = False) -> logging.LogRecord:
        trouble = (ValueError, ValueError("x"), None) if error else None
        return logging.LogRecord("uvicorn.error", logging.WARNING, "", 1, text, (), trouble)

    records = RepeatedRecords()
    assert [records.filter(record("invalid HTTP")) for _ in range(3)] == [True, False, False]
    assert records.filter(record("something else"))
    assert all(records.filter(record("broken", error=True)) for _ in range(3))
    assert sum(records.filter(record(f"text {number}")) for number in range(500)) < 120
