"""What is installed is locked by version and hash, on every way of installing it."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from devstack.fetch.maven import pinned_jars
from devstack.sbom import write_sbom

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


def test_the_bill_of_materials_has_everything_that_is_locked_with_its_hashes(
    tmp_path: Path,
) -> None:
    output = tmp_path / "sbom.cdx.json"
    count = write_sbom(output)
    bill = json.loads(output.read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    listed = {}
    for each in bill["components"]:
        hashes = [*each.get("hashes", ())]
        for reference in each.get("externalReferences", ()):
            hashes += reference.get("hashes", ())
        listed[each["purl"].partition("?")[0]] = {found["content"] for found in hashes}
    wanted = {}
    for requirement, digests in _locked("requirements.lock"):
        [specifier] = requirement.specifier
        name = f"pkg:pypi/{canonicalize_name(requirement.name)}@{specifier.version}"
        wanted[name] = {each.removeprefix("sha256:") for each in digests}
    for jars in pinned_jars().values():
        for jar in jars:
            wanted[f"pkg:maven/{jar.group}/{jar.artefact}@{jar.version}"] = {jar.sha256}
    assert listed == wanted
    assert count == len(bill["components"]) == len(wanted)
    [root] = [each for each in bill["dependencies"] if each["ref"] == "root-component"]
    assert len(root["dependsOn"]) == count
    again = tmp_path / "again.json"
    write_sbom(again)
    assert again.read_bytes() == output.read_bytes()
    # The schema takes a second for each twenty packages: some of both kinds are enough.
    bill["components"] = bill["components"][:5] + bill["components"][-50:]
    kept = {"root-component", *(each["bom-ref"] for each in bill["components"])}
    bill["dependencies"] = [{"ref": each} for each in sorted(kept)]
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill)) is None
