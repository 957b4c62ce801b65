"""The version that runs: the labels of the metric build_info."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from schemas.features import FINGERPRINT

PACKAGE = "fraud-scoring"


@cache
def build_labels() -> dict[str, str]:
    """Return the versions of this package and of Python, and the catalogue's fingerprint (hex).

    The package's version is "source" if it is not installed.
    """
    try:
        found = version(PACKAGE)
    except PackageNotFoundError:
        found = "source"
    return {
        "version": found,
        "python": platform.python_version(),
        "catalogue": FINGERPRINT.hex(),
    }
