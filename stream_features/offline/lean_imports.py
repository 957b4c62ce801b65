"""Keeps out of a process what libraries load for no other reason than that it is installed.

pyarrow loads pandas at its first conversion, numba loads scipy's linear algebra at its first
kernel: half a second of a start, for what the feature engine does not use. Both do without where
they must.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

UNUSED: Final = frozenset({"pandas", "scipy.linalg"})


class _Refusal(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in UNUSED:
            raise ModuleNotFoundError(f"{fullname} is not for this process", name=fullname)
        return None


def refuse_unused() -> None:
    """Let imports of UNUSED fail from now on, in this whole process."""
    sys.meta_path.insert(0, _Refusal())
