"""Checks a report against the bounds in bounds.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from schemas.errors import ConfigurationError

BOUNDS: Final = Path(__file__).with_name("bounds.json")


def check(report: Mapping[str, Any], path: Path = BOUNDS) -> tuple[list[str], list[str]]:
    """Return the bounds that the report keeps, and those that it breaks, as texts.

    A bound applies to reports of its command in which every figure of `when` has the given value.

    Raises:
        ConfigurationError: the file cannot be read, or no bound applies.
    """
    try:
        bounds = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot read bounds {path}: {error}") from error
    kept: list[str] = []
    broken: list[str] = []
    for bound in bounds:
        when = bound.get("when", {})
        if bound["command"] != report["command"]:
            continue
        if any(report.get(name) != value for name, value in when.items()):
            continue
        text, holds = _holds(report, bound)
        (kept if holds else broken).append(text)
    if not kept and not broken:
        asked = [f"{each['command']} {each.get('when', {})}" for each in bounds]
        raise ConfigurationError(
            f"--check: no bound in {path} applies to this run ({report['command']}); "
            f"there are bounds for {'; '.join(dict.fromkeys(asked))}"
        )
    return kept, broken


def _holds(report: Mapping[str, Any], bound: Mapping[str, Any]) -> tuple[str, bool]:
    figure = report.get(bound["figure"])
    limit = bound.get("at_most", bound.get("at_least"))
    sign = "at most" if "at_most" in bound else "at least"
    text = f"{bound['figure']} {figure} ({sign} {limit})"
    if not isinstance(figure, int | float):
        return text, False
    return text, figure <= limit if "at_most" in bound else figure >= limit
