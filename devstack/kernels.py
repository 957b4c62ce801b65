"""Removal of compiled kernels that hold code which has since changed.

Numba keeps each compiled kernel beside its source file and compiles it again when that file
changes. What the kernel takes from other files, functions and constants, is compiled into it, and
numba does not notice when those files change: the old code keeps running. `remove_stale_kernels`
compares a kernel with these files as well.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
_DECORATORS: Final = {"numba", "schemas.compiled"}
"""Modules from which a file with kernels imports their decorators."""


def remove_stale_kernels(root: Path = ROOT) -> list[Path]:
    """Remove each module's compiled kernels if a file that they are made of is newer.

    Returns:
        The source files whose kernels will be compiled again, sorted.
    """
    caches: dict[Path, list[Path]] = {}
    for package in sorted(root.iterdir()):
        if (package / "__init__.py").exists():
            for path in package.rglob("__pycache__/*.nb[ic]"):
                source = path.parents[1] / f"{path.name.split('.', 1)[0]}.py"
                caches.setdefault(source, []).append(path)
    parts: dict[Path, set[Path]] = {}
    stale = [
        source
        for source, files in caches.items()
        if max(map(_changed, _made_of(source, root, parts)), default=0) > min(map(_changed, files))
    ]
    for source in stale:
        for path in sorted(caches[source], reverse=True):  # The index before the code.
            path.unlink(missing_ok=True)
    return sorted(stale)


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def _made_of(source: Path, root: Path, parts: dict[Path, set[Path]]) -> set[Path]:
    """Return the files whose functions and constants the kernels of `source` may hold."""
    found: set[Path] = set()
    waiting = [source]
    while waiting:
        path = waiting.pop()
        if path not in found and path.exists():
            found.add(path)
            if path not in parts:
                parts[path] = _imported(path, root)
            waiting.extend(parts[path])
    return found


def _imported(path: Path, root: Path) -> set[Path]:
    """Return the files from which a file with kernels takes functions, modules and constants.

    A file without kernels takes nothing into one: its constants are its own.
    """
    imports = [
        node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom)
    ]
    if not any(node.module in _DECORATORS for node in imports):
        return set()
    found: set[Path] = set()
    for node in imports:
        folder = root / (node.module or "").replace(".", "/")
        for name in node.names:
            # A class is not compiled into a kernel.
            if name.name.islower() or name.name.isupper():
                found |= {folder.with_suffix(".py"), folder / f"{name.name}.py"}
    return {each for each in found if each.exists()}
