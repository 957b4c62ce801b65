"""Documents name files, folders, modules and commands that exist, and the ways are walked once."""

from __future__ import annotations

import importlib
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
NARROW = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "docs/architecture.md")]
DOCUMENTS = sorted(
    {
        *NARROW,
        *(ROOT / "docs").glob("*.md"),
        *ROOT.glob("schemas/*.md"),
        *ROOT.glob("loadtest/*.md"),
    }
)
STAGES_OF_A_REPORT = ROOT / "loadtest/README.md"
"""Its dotted names are keys of a report."""
PACKAGES = {path.parent.name for path in ROOT.glob("*/__init__.py")}
TRACKED = subprocess.run(
    ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.split()
FOLDERS = {str(folder) for name in TRACKED for folder in Path(name).parents}
PRIMITIVES = ("schemas/", "runtime/")
"""What many steps use; a way may name them more than once."""
WAYS = ("transaction", "label", "model event", "HTTP request")
VERBS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
PATH = re.compile(r"(?:[A-Za-z0-9_.-]+/)+[A-Za-z0-9_.-]*|[a-z0-9_]+\.(?:py|lua|avsc)")
COMMAND = re.compile(r"python -m ([a-z_.]+)((?: [a-z][a-z|-]*)*)((?: [^\s#&;`]+)*)")


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _tokens(text: str) -> Iterator[Token]:
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        yield token
        yield from token.children or ()


def code(text: str) -> list[str]:
    """Return what a document sets as code, in lines and in blocks."""
    kinds = ("code_inline", "fence", "code_block")
    return [
        token.content
        for token in _tokens(text)
        if token.type in kinds and not token.info.startswith("mermaid")
    ]


def paths(text: str) -> list[str]:
    """Return the files and folders of ours that a document names, in its order."""
    found = []
    for piece in code(text):
        words = piece.split() if "\n" in piece or piece.startswith(".venv") else [piece]
        for word in words:
            if PATH.fullmatch(word) and (ours(word) or "/" not in word):
                found.append(word)
    return found


def ours(word: str) -> bool:
    """Whether a word with slashes begins with a folder of the repository."""
    return word.split("/")[0] in {name.split("/")[0] for name in TRACKED if "/" in name}


def exists(path: str) -> bool:
    """Whether a path is in the tree; a bare file name may be anywhere in it."""
    bare = path.rstrip("/")
    if "/" in bare or bare in FOLDERS:
        return bare in FOLDERS or bare in TRACKED
    return any(Path(name).name == bare for name in TRACKED)


def modules(text: str) -> list[str]:
    """Return the dotted names of ours that a document sets as code."""
    named = [piece for piece in code(text) if re.fullmatch(r"[a-z_]+(\.\w+)+", piece)]
    return [piece for piece in named if piece.split(".")[0] in PACKAGES and not exists(piece)]


def importable(dotted: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        stem = ROOT.joinpath(*parts[:length])
        if stem.is_dir() or stem.with_suffix(".py").is_file():
            found: object = importlib.import_module(".".join(parts[:length]))
            for name in parts[length:]:
                if not hasattr(found, name):
                    return False
                found = getattr(found, name)
            return True
    return False


def wrong_command(package: str, words: list[str], options: list[str]) -> str | None:
    """Return what is wrong with `python -m package words… options…`, None for a good one."""
    if package.split(".")[0] not in PACKAGES:
        return None
    if not (ROOT / package.replace(".", "/") / "__main__.py").is_file():
        return None if "." in package and importable(package) else f"{package} has no commands"
    app = importlib.import_module(f"{package}.__main__").app
    command: Any = typer.main.get_command(app)
    for word in words:
        if not hasattr(command, "commands"):
            break
        for each in word.split("|"):
            if each not in command.commands:
                return f"python -m {package}: there is no command {each}"
        command = command.commands[word.split("|")[-1]]
    if hasattr(command, "commands") or command.context_settings.get("allow_extra_args"):
        return None
    known = {name for parameter in command.params for name in parameter.opts}
    known |= {name for parameter in command.params for name in parameter.secondary_opts}
    unknown = [option for option in options if option not in known | {"--help"}]
    return f"python -m {package}: {command.name} has no option {unknown[0]}" if unknown else None


def commands(text: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield package, words and options of every `python -m …` of a document."""
    for piece in code(text):
        for package, words, rest in COMMAND.findall(piece.replace("\\\n", " ")):
            yield package, words.split(), re.findall(r"--[a-z][a-z-]*", rest)


def ways(text: str) -> dict[str, list[str]]:
    """Return the numbered steps of each way, as they stand in the document."""
    found = {}
    for part in re.split(r"^## The way of one ", text, flags=re.MULTILINE)[1:]:
        title, rest = part.split("\n", 1)
        steps = re.split(r"^#", rest, maxsplit=1, flags=re.MULTILINE)[0]
        found[title] = re.findall(r"^\d+\. .+(?:\n    ?\S?.*\S)*", steps, re.MULTILINE)
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_every_file_and_folder_that_a_document_names_is_in_the_tree(document: Path) -> None:
    assert [path for path in paths(document.read_text()) if not exists(path)] == []


@pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if path != STAGES_OF_A_REPORT], ids=_name
)
def test_every_module_that_a_document_names_can_be_imported(document: Path) -> None:
    assert [each for each in modules(document.read_text()) if not importable(each)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_every_command_that_a_document_names_exists(document: Path) -> None:
    found = commands(document.read_text())
    assert [problem for each in found if (problem := wrong_command(*each))] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_every_verb_of_make_that_a_document_names_is_in_the_makefile(document: Path) -> None:
    text = "\n".join(code(document.read_text()))
    named = re.findall(r"^(?:[A-Z_]+=\S+ )?make ([a-z][a-z|]*)", text, re.MULTILINE)
    assert {verb for verbs in named for verb in verbs.split("|")} - VERBS == set()


@pytest.mark.parametrize("way", WAYS)
def test_a_way_enters_no_file_twice(way: str) -> None:
    steps = ways((ROOT / "docs/architecture.md").read_text())[way]
    assert len(steps) >= 10
    named = [path for step in steps for path in re.findall(r"`([a-z_/0-9]+\.py)`", step)]
    entered = Counter(path for path in named if not path.startswith(PRIMITIVES))
    assert [path for path, times in entered.items() if times > 1] == []


@pytest.mark.parametrize("way", WAYS)
def test_the_steps_of_a_way_are_numbered_one_after_the_other(way: str) -> None:
    steps = ways((ROOT / "docs/architecture.md").read_text())[way]
    assert [int(step.split(".")[0]) for step in steps] == list(range(1, len(steps) + 1))


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_every_package_is_described_once(package: str) -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    assert len(re.findall(rf"^- `{package}` ", text, re.MULTILINE)) == 1


@pytest.mark.parametrize("document", NARROW, ids=_name)
def test_lines_are_no_wider_than_140_columns(document: Path) -> None:
    wide = [line for line in document.read_text().splitlines() if len(line) > 140]
    assert wide == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("`python -m gateway run --port 8000`", None),
        ("`.venv/bin/python -m gateway keys create checkout --scopes score,read`", None),
        ("`python -m scorer.api run`", "scorer.api has no commands"),
        ("`python -m scorer keys list`", "python -m scorer: there is no command keys"),
        ("`python -m gateway keys forge`", "python -m gateway: there is no command forge"),
        ("`python -m gateway run --gate 8000`", "python -m gateway: run has no option --gate"),
        (
            "    python -m database store --twice &\n",
            "python -m database: store has no option --twice",
        ),
        ("`python -m loadtest run|max|walk`", "python -m loadtest: there is no command walk"),
        ("`python -m http.server`", None),
    ],
)
def test_a_command_that_does_not_exist_is_noticed(text: str, problem: str | None) -> None:
    [found] = commands(text)
    assert wrong_command(*found) == problem


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("`scorer/model/bundle.py`, `scorer/model`, `bundle.py`, `tests/support/`", []),
        ("`scorer/bundle.py`", ["scorer/bundle.py"]),
        ("`docs/nowhere`", ["docs/nowhere"]),
        ("`nowhere.py`", ["nowhere.py"]),
        ("```\ncp docs/nowhere.json here\n```", ["docs/nowhere.json"]),
        ("`/queue`, `var/archive`, `text/html`, `STATE/runs`", []),
    ],
)
def test_a_path_that_does_not_exist_is_noticed(text: str, missing: list[str]) -> None:
    assert [path for path in paths(text) if not exists(path)] == missing


def test_a_module_that_does_not_exist_is_noticed() -> None:
    named = modules("`scorer.decision.decide`, `scorer.decision.decide.decide`, `scorer.api.run`")
    assert [each for each in named if not importable(each)] == ["scorer.api.run"]
