"""Downloads the dashboard's chart library into the folder that the dashboard serves."""

from __future__ import annotations

import os
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from devstack.fetch.maven import Jar, fetch_jars, pinned_jars
from schemas.errors import ConfigurationError

UPLOT_VERSION: Final = "1.6.30"
UPLOT_ENDPOINT: Final = f"org.webjars.npm:uplot:{UPLOT_VERSION}"
"""What `python -m devstack pin` resolves to the jar of uPlot."""
VENDOR: Final = Path(__file__).parents[2] / "dashboard" / "static" / "vendor"
FILES: Final = {
    "dist/uPlot.esm.js": "uPlot.esm.js",
    "dist/uPlot.min.css": "uPlot.min.css",
    "LICENSE": "uPlot.LICENSE.txt",
}
"""Files to take from the jar, and their names in the dashboard's folder."""


def fetch_charts(vendor: Path = VENDOR, jar: Jar | None = None) -> None:
    """Put uPlot's module, style sheet and licence into `vendor`, as the pinned jar has them.

    A file that is there already, but differs from the one in the jar, is replaced.

    Args:
        vendor: the folder that the dashboard serves.
        jar: the one that is pinned, unless a test has its own.

    Raises:
        ConfigurationError: the jar cannot be downloaded or is not the one that is pinned, or the
            files cannot be written.
    """
    [path] = fetch_jars([jar or pinned_jars()["uplot"][0]], f"uPlot {UPLOT_VERSION} (0.2 MB)")
    try:
        vendor.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path) as opened:
            for inside, name in FILES.items():
                data = opened.read(f"META-INF/resources/webjars/uplot/{UPLOT_VERSION}/{inside}")
                if not (vendor / name).is_file() or (vendor / name).read_bytes() != data:
                    _write(vendor / name, data)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ConfigurationError(
            f"uPlot could not be put into {vendor} ({error}): check that it can be written, or "
            f"delete {path}, then run the same command again"
        ) from error


def _write(path: Path, data: bytes) -> None:
    """Write atomically, because a dashboard may be serving the file."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as made:
        made.write(data)
    Path(made.name).chmod(0o644)
    os.replace(made.name, path)
