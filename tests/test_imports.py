"""The import rules: complete by construction, without circles, and light where it matters."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LINTER = PROJECT["tool"]["importlinter"]
PACKAGES = {path.parent.name for path in ROOT.glob("*/__init__.py")}
FULLEST = 16
"""Python files in one folder, its `__init__` left out."""


def test_packages_import_only_in_the_allowed_direction() -> None:
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml")) == 0


def test_every_module_is_under_the_rule_of_its_package() -> None:
    [layers] = [rule["layers"] for rule in LINTER["contracts"] if rule["type"] == "layers"]
    ruled = [name.strip() for layer in layers for name in layer.split("|")]
    assert sorted(ruled) == sorted(PACKAGES), "a package is not in the contract `layers`"
    assert set(LINTER["root_packages"]) == PACKAGES
    tracked = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    graph = grimp.build_graph(*sorted(PACKAGES))
    outside = {
        name
        for name in tracked
        if not name.startswith("tests/")
        and name[:-3].replace("/", ".").removesuffix(".__init__") not in graph.modules
    }
    assert not outside, "these modules are in no package: no rule sees them"


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports that only type checkers see count, too."""
    graph = grimp.build_graph(*sorted(PACKAGES))
    circles = [
        (importer, imported)
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
        if graph.find_shortest_chain(imported, importer) is not None
    ]
    assert circles == []


def test_no_folder_holds_more_files_than_a_reader_takes_in() -> None:
    full = {
        str(folder.relative_to(ROOT)): count
        for package in sorted(PACKAGES)
        for folder in [ROOT / package, *(ROOT / package).rglob("*/")]
        if (count := sum(1 for path in folder.glob("*.py") if path.name != "__init__.py")) > FULLEST
    }
    assert full == {}


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("stream_features.engine.offline", ("faust", "pandas", "xgboost", "river", "pyarrow")),
        ("scorer.decision.decide", ("faust", "pandas", "xgboost", "river", "pyarrow", "fastapi")),
        ("schemas.codec.transactions", ("confluent_kafka", "redis", "faust", "pandas", "pyarrow")),
    ],
)
def test_importing_a_kernel_loads_no_heavy_package(module: str, heavy: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout
    assert found.strip() == "[]"
