"""docs/threat-model.md names tests that exist, and none of its threats is without an answer."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "threat-model.md").read_text()
THREATS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in TEXT.split("\n## Threats\n")[1].split("\n## ")[0].splitlines()
    if line.startswith("| ") and not line.startswith("| threat |")
]
NOT_YET = "No test holds this yet."


def _tests(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("threat", THREATS, ids=[each[0][:50] for each in THREATS])
def test_each_threat_has_a_control_and_the_test_that_holds_it(threat: list[str]) -> None:
    _, control, held_by = threat
    assert control
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", held_by)
    assert named or NOT_YET in held_by or held_by == "accepted, see below"
    for path, name in named:
        assert (ROOT / path).exists(), path
        assert not name or name in _tests(path), f"{path} has no {name}"


def test_the_threat_model_is_found_from_where_people_look() -> None:
    assert "(threat-model.md)" in (ROOT / "docs" / "README.md").read_text()
    assert "(docs/threat-model.md)" in (ROOT / "SECURITY.md").read_text()
