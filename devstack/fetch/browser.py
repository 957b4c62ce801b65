"""A real Chromium: the installed one, or else Debian's."""

from __future__ import annotations

import os
import shutil
from typing import Final, NamedTuple

from devstack.fetch.debian import unpack

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_PROGRAM: Final = "usr/lib/chromium/chromium"


class Browser(NamedTuple):
    """Program and environment in the form that Playwright's `launch` expects."""

    executable_path: str
    env: dict[str, str | float | bool]


def chromium() -> Browser:
    """Return a browser; downloads Debian's with its libraries (125 MB) if none is installed.

    Raises:
        ConfigurationError: no browser is installed and Debian's cannot be downloaded.
    """
    env: dict[str, str | float | bool] = {**os.environ}
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is not None:
        return Browser(found, env)
    files = unpack("chromium", [_PROGRAM], with_needed=True)
    found_in = {
        str(path.parent)
        for folder in ("lib", "usr/lib")
        for path in files.glob(f"{folder}/*-linux-*/**/lib*.so*")
    }
    theirs = os.environ.get("LD_LIBRARY_PATH", "")
    env["LD_LIBRARY_PATH"] = ":".join([*sorted(found_in), *filter(None, [theirs])])
    return Browser(str(files / _PROGRAM), env)
