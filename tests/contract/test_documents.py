"""Documents: links lead somewhere, decisions say their status and date, packages their licence."""

from __future__ import annotations

import re
import tomllib
from datetime import date
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
AT_THE_TOP = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
DOCUMENTS = [
    *(ROOT / name for name in AT_THE_TOP if (ROOT / name).exists()),
    *sorted((ROOT / "docs").rglob("*.md")),
]
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
INDEX = (ROOT / "docs" / "decisions" / "README.md").read_text()
SECTIONS = ("Context", "Decision", "Alternatives", "The figure that decided")
STATUS = r"accepted|superseded(?: in part)? by \[(\d{4})\]\((\d{4}-[a-z0-9-]+\.md)\)"


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _tokens(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(text)


def links(text: str) -> list[str]:
    """Return where the links and pictures of a document lead; code holds none."""
    found = []
    for token in _tokens(text):
        for each in token.children or ():
            target = {"link_open": "href", "image": "src"}.get(each.type)
            if target is not None:
                found.append(str(each.attrs[target]))
    return found


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them: a repeated one gets a number."""
    seen: dict[str, int] = {}
    found = set()
    tokens = _tokens(text)
    for opening, inline in pairwise(tokens):
        if opening.type != "heading_open":
            continue
        words = "".join(
            each.content for each in inline.children or () if each.type in ("text", "code_inline")
        )
        slug = re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if slug in seen else slug)
        seen[slug] = seen.get(slug, 0) + 1
    return found


def broken(document: Path, target: str) -> str | None:
    """Return what is wrong with a relative link of a document, None for a good one."""
    place, _, anchor = target.partition("#")
    path = (document.parent / unquote(place)).resolve() if place else document
    if not path.is_relative_to(ROOT):
        return f"{target} leads out of the repository"
    if not path.exists():
        return f"{target}: there is no {_name(path)}"
    if not anchor:
        return None
    if path.suffix != ".md":
        return f"{target}: {_name(path)} has no headings"
    if anchor not in anchors(path.read_text()):
        return f"{target}: {_name(path)} has no heading #{anchor}"
    return None


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_every_relative_link_leads_to_a_file_and_every_anchor_to_a_heading(document: Path) -> None:
    relative = [
        target
        for target in links(document.read_text())
        if not re.match(r"[a-z][a-z0-9+.-]*:", target)
    ]
    problems = [problem for target in relative if (problem := broken(document, target))]
    assert problems == []


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("docs/access.md#the-audit", None),
        ("docs/decisions", None),
        ("docs/nowhere.md", "docs/nowhere.md: there is no docs/nowhere.md"),
        (
            "docs/access.md#nothing",
            "docs/access.md#nothing: docs/access.md has no heading #nothing",
        ),
        ("LICENSE#top", "LICENSE#top: LICENSE has no headings"),
        ("../elsewhere", "../elsewhere leads out of the repository"),
    ],
)
def test_a_broken_link_is_noticed(target: str, problem: str | None) -> None:
    assert broken(ROOT / "README.md", target) == problem


def test_headings_become_anchors_as_on_github() -> None:
    text = "# `make demo`: the *first* step\n\n## A & B\n\n## A & B\n\n```\n# no heading\n```\n"
    assert anchors(text) == {"make-demo-the-first-step", "a--b", "a--b-1"}


def test_links_in_code_are_not_links() -> None:
    assert links("`[a](b.md)` [c](d.md)\n\n    [e](f.md)\n\n![g](h.png)\n") == ["d.md", "h.png"]


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_says_its_status_and_date_and_what_else_was_considered(path: Path) -> None:
    text = path.read_text()
    number = int(path.name[:4])
    assert text.startswith(f"# {number}. ")
    status = re.search(rf"^- Status: ({STATUS})$", text, re.MULTILINE)
    assert status is not None, "no line '- Status: accepted' or '- Status: superseded by [NNNN](…)'"
    if status[2] is not None:
        assert status[3].startswith(status[2])
        assert int(status[2]) > number, "a later decision supersedes an earlier one"
    written = re.search(r"^- Date: (\d{4}-\d{2}-\d{2})$", text, re.MULTILINE)
    assert written is not None, "no line '- Date: YYYY-MM-DD'"
    assert date.fromisoformat(written[1])
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert [each for each in headings if each in SECTIONS] == list(SECTIONS)


def test_decision_numbers_are_used_once() -> None:
    numbers = [path.name[:4] for path in DECISIONS]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_the_index_lists_each_decision_with_its_title_status_and_date(path: Path) -> None:
    text = path.read_text()
    title = text.splitlines()[0].removeprefix(f"# {int(path.name[:4])}. ")
    status = re.search(r"^- Status: (.+)$", text, re.MULTILINE)
    written = re.search(r"^- Date: (.+)$", text, re.MULTILINE)
    assert status is not None
    assert written is not None
    row = f"| [{path.name[:4]}]({path.name}) | {title} | {status[1]} | {written[1]} |"
    assert row in INDEX.splitlines()


def test_the_index_of_documents_leads_to_each_of_them() -> None:
    listed = {target.partition("#")[0] for target in links((ROOT / "docs/README.md").read_text())}
    there = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert there - listed == set()
    assert "decisions/README.md" in listed


def test_every_package_that_is_installed_says_that_it_is_typed() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {name.rstrip("*") for name in tool["packages"]["find"]["include"]}
    assert {name for name in packages if not (ROOT / name / "py.typed").is_file()} == set()
    assert "py.typed" in tool["package-data"]["*"]


def test_the_licence_that_the_package_names_is_the_text_that_it_ships() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0"
    assert project["license-files"] == ["LICENSE"]
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in text


def test_the_newest_version_in_the_changelog_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert re.fullmatch(rf"{re.escape(project['version'])} \(\d{{4}}-\d\d-\d\d\)", headings[1])
