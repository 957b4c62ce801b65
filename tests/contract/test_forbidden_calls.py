"""Calls that would let data become code or SQL are nowhere in the product."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.import_closure import OURS, ROOT

FILES = sorted(path for package in OURS for path in (ROOT / package).rglob("*.py"))
UNPACKERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "skops"}
"""Modules that run what they read."""


def _calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Yield each call with the last name of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                yield node.func.id, node
            elif isinstance(node.func, ast.Attribute):
                yield f".{node.func.attr}", node


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name.partition(".")[0] for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def _problems(tree: ast.AST) -> list[str]:
    found = [f"imports {name}" for name in set(_imported(tree)) & UNPACKERS]
    for name, call in _calls(tree):
        options = {each.arg: each.value for each in call.keywords}
        place = f"line {call.lineno}: {name.lstrip('.')}"
        if name in ("eval", "exec", ".system", ".popen", ".unsafe_load", ".full_load"):
            found.append(place)
        for option in ("shell", "allow_pickle"):
            value = options.get(option)
            if value is not None and not (isinstance(value, ast.Constant) and value.value is False):
                found.append(f"{place} with {option}")
        if name in ("text", ".exec_driver_sql") and any(
            isinstance(each, ast.JoinedStr | ast.BinOp) for each in call.args
        ):
            found.append(f"{place} of a text that is put together")
    return found


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import pickle", "imports pickle"),
        ("from joblib import load", "imports joblib"),
        ("eval(name)", "line 1: eval"),
        ("numpy.load(path, allow_pickle=True)", "line 1: load with allow_pickle"),
        ("run(command, shell=True)", "line 1: run with shell"),
        ("text(f'SELECT {name}')", "line 1: text of a text that is put together"),
    ],
)
def test_what_is_forbidden_is_found(source: str, problem: str) -> None:
    assert _problems(ast.parse(source)) == [problem]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_data_becomes_code_or_sql(path: Path) -> None:
    assert _problems(ast.parse(path.read_text())) == []
