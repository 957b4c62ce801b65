"""The chart library that the live page needs; `python -m devstack fetch` puts it there."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from schemas.errors import ConfigurationError

VENDOR: Final = Path(__file__).parents[1] / "static" / "vendor"
FILES: Final = ("uPlot.esm.js", "uPlot.min.css")


def require_charts(folder: Path = VENDOR) -> None:
    """Refuse to start without it: a page without its charts says nothing.

    Raises:
        ConfigurationError: a file is missing; the text says what to do.
    """
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise ConfigurationError(
            f"the chart library is not in {folder} ({', '.join(missing)}): "
            "run `python -m devstack fetch` once, which gets it from Maven's central repository"
        )
