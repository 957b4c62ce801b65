"""The import rules, and that the light packages stay light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]


def test_packages_import_only_in_the_allowed_direction() -> None:
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml")) == 0


def test_importing_the_kernel_loads_no_heavy_package() -> None:
    code = (
        "import sys, stream_features.engine.offline;"
        "print([m for m in ('faust', 'pandas', 'xgboost', 'river', 'pyarrow') if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout
    assert found.strip() == "[]"
