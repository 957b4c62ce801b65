"""A real Chromium: that of the path, else Debian's. Called by browser tests and `loadtest page`."""

from __future__ import annotations

import os
import shutil
from typing import Final, NamedTuple

from devstack.debian import unpacked

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_PROGRAM: Final = "usr/lib/chromium/chromium"


class Browser(NamedTuple):
    """Program and environment, as Playwright's `launch` takes them."""

    executable_path: str
    env: dict[str, str | float | bool]


def chromium() -> Browser:
    """Return the browser, fetching Debian's with the libraries that are missing (125 MB) if needed.

    Raises:
        ConfigurationError: there is none and it cannot be fetched.
    """
    env: dict[str, str | float | bool] = {**os.environ}
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is not None:
        return Browser(found, env)
    files = unpacked("chromium", [_PROGRAM], with_needed=True)
    libraries = {str(path.parent) for path in files.glob("usr/lib/*-linux-*/**/lib*.so*")}
    env["LD_LIBRARY_PATH"] = ":".join(sorted(libraries))
    return Browser(str(files / _PROGRAM), env)
