"""Compiled kernels that hold code which has since changed are removed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from devstack.kernels import remove_stale_kernels

CALLER = """
from numba import njit

from package.called import add
from package.constants import STEP


@njit(cache=True)
def twice(value):
    return add(add(value)) + STEP


@njit(cache=True)
def alone(value):
    return value
"""
CALLED = """
from numba import njit


@njit(cache=True)
def add(value):
    return value + {}
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "caller.py").write_text(CALLER)
    (package / "called.py").write_text(CALLED.format(1))
    (package / "constants.py").write_text("STEP = 10\n")
    return tmp_path


def answer(tree: Path) -> int:
    """Return what the kernel says of 0, in a process that uses the compiled ones."""
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    code = "from package.caller import twice; print(twice(0))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tree, env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return int(run.stdout)


def change(path: Path, text: str) -> None:
    """Write a file so that it is newer than every other, however coarse the clock."""
    path.write_text(text)
    newest = max(each.stat().st_mtime_ns for each in path.parent.rglob("*"))
    os.utime(path, ns=(newest + 1_000_000, newest + 1_000_000))


def test_a_kernel_is_compiled_again_when_what_it_takes_from_another_file_has_changed(
    tree: Path,
) -> None:
    package = tree / "package"
    assert remove_stale_kernels(tree) == []
    assert answer(tree) == 12
    assert remove_stale_kernels(tree) == []
    change(package / "called.py", CALLED.format(2))
    assert answer(tree) == 12  # This is what numba does by itself.
    assert package / "caller.py" in remove_stale_kernels(tree)
    assert answer(tree) == 14
    change(package / "constants.py", "STEP = 20\n")
    assert remove_stale_kernels(tree) == [package / "caller.py"]
    assert answer(tree) == 24
    assert remove_stale_kernels(tree) == []


def test_a_file_that_no_kernel_uses_leaves_the_kernels_alone(tree: Path) -> None:
    assert answer(tree) == 12
    kernels = sorted(tree.rglob("*.nb[ic]"))
    change(tree / "package" / "other.py", "STEP = 1\n")
    assert remove_stale_kernels(tree) == []
    assert sorted(tree.rglob("*.nb[ic]")) == kernels
    assert kernels
