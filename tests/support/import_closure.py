"""What a process imports, found by reading the code: our modules, and other people's packages."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
OURS: Final = frozenset(
    (
        "schemas",
        "runtime",
        "database",
        "stream_features",
        "scorer",
        "gateway",
        "dashboard",
        "monitor",
        "trainer",
        "simulation",
        "loadtest",
        "devstack",
    )
)


def closure(modules: Iterable[str], *, lazy: bool = True) -> tuple[set[str], set[str]]:
    """Return (our modules, names of foreign top-level packages) that `modules` lead to.

    With `lazy`, imports inside functions count too.
    """
    ours: set[str] = set()
    foreign: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        top = module.partition(".")[0]
        if top not in OURS:
            foreign.add(top)
        elif module not in ours and (path := _path(module)) is not None:
            ours.add(module)
            waiting += _imports(ast.parse(path.read_text()), lazy)
            if module != top:
                waiting.append(module.rpartition(".")[0])
    return ours, foreign - set(sys.stdlib_module_names)


def _path(module: str) -> Path | None:
    """Return the file of a module; None for a name inside one."""
    base = ROOT.joinpath(*module.split("."))
    for path in (base / "__init__.py", base.with_suffix(".py")):
        if path.is_file():
            return path
    return None


def _imports(node: ast.AST, lazy: bool) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (each.name for each in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield child.module
            yield from (f"{child.module}.{each.name}" for each in child.names)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        elif lazy or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _imports(child, lazy)
