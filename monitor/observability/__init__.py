"""Prometheus' rules and scrape configuration, Grafana's dashboards: files, and where they lie."""

from __future__ import annotations

from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
PROMETHEUS: Final = FOLDER / "prometheus.yml"
RULES: Final = (FOLDER / "rules/recording.yml", FOLDER / "rules/alerting.yml")
RULE_TESTS: Final = FOLDER / "rules/tests"
DASHBOARDS: Final = FOLDER / "grafana/dashboards"
PROVISIONING: Final = FOLDER / "grafana/provisioning"
