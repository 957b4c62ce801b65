"""The chart library of the live page, which `python -m devstack fetch` installs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from schemas.errors import ConfigurationError

VENDOR: Final = Path(__file__).parents[1] / "static" / "vendor"
FILES: Final = ("uPlot.esm.js", "uPlot.min.css")


def require_charts(folder: Path = VENDOR) -> None:
    """Refuse to start without the chart library: the live page needs its charts.

    Raises:
        ConfigurationError: a file is missing; the text says how to get it.
    """
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise ConfigurationError(
            f"the chart library is not in {folder} ({', '.join(missing)}): "
            "run `python -m devstack fetch` once, which downloads it from Maven Central"
        )
