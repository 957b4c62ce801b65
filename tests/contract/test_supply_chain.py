"""What is installed is locked by version and hash, on every way of installing it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ("requirements.lock", "requirements-installer.lock")


def _locked(name: str) -> list[tuple[Requirement, list[str]]]:
    """Return what a lock has: each package at its version, with its hashes."""
    found = []
    for entry in (ROOT / name).read_text().replace("\\\n", " ").splitlines():
        requirement, *hashes = entry.split(" --hash=")
        found.append((Requirement(requirement), [each.strip() for each in hashes]))
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_everything_that_is_locked_has_one_version_and_hashes(name: str) -> None:
    locked = _locked(name)
    assert locked
    for requirement, hashes in locked:
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), requirement
        assert requirement.url is None
        assert hashes, f"{requirement} has no hash: run `make lock`"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), requirement
    assert "://" not in (ROOT / name).read_text(), "a lock names no index"


def test_every_requirement_of_the_project_is_locked() -> None:
    project = PROJECT["project"]
    wanted = [*PROJECT["build-system"]["requires"], *project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    versions: dict[str, list[str]] = {}
    for requirement, _ in _locked("requirements.lock"):
        [specifier] = requirement.specifier
        versions.setdefault(canonicalize_name(requirement.name), []).append(specifier.version)
    for each in map(Requirement, wanted):
        if each.name == project["name"]:
            continue
        found = versions.get(canonicalize_name(each.name))
        assert found, f"{each} is not in requirements.lock: run `make lock`"
        assert all(each.specifier.contains(version) for version in found), (each, found)


def test_make_installs_by_hash_only() -> None:
    lines = (ROOT / "Makefile").read_text().splitlines()
    installs = [line for line in lines if "pip install" in line]
    assert len(installs) == 3
    for line in installs:
        by_hash = "--require-hashes -r requirements" in line
        ours = line.endswith("--no-deps --build-constraint requirements.lock -e .")
        assert by_hash or ours, line
    [stamp] = [line for line in lines if line.startswith("$(STAMP):")]
    assert set(LOCKS) <= set(stamp.split())


def test_the_installer_is_the_one_that_is_locked() -> None:
    [(requirement, _)] = _locked("requirements-installer.lock")
    assert requirement.name == "uv"
