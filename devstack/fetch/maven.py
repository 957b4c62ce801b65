"""Jars from Maven's central repository, kept between runs and clones."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from schemas.errors import ConfigurationError


def cache_dir() -> Path:
    """Return the directory in which downloads are kept between runs and clones."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "fraud-scoring"


def fetch_jars(endpoint: str, what: str, needed: Sequence[str]) -> list[str]:
    """Return the paths of the jars of `endpoint`, which are downloaded the first time.

    Args:
        endpoint: artefacts as "group:artefact:version", joined by "+".
        what: name of the download in messages.
        needed: file names that must be among the jars.

    Raises:
        ConfigurationError: the jars cannot be downloaded, or one of `needed` is not among them.
    """
    root = cache_dir()
    root.mkdir(parents=True, exist_ok=True)
    # The name depends on the endpoint, so that the list for an older version is never used.
    listing = root / f"class-path-{hashlib.sha256(endpoint.encode()).hexdigest()[:12]}"
    with (root / "maven.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may both find the cache empty
        if listing.exists():
            kept = listing.read_text().split(os.pathsep)
            if all(Path(jar).is_file() for jar in kept):
                return kept
        found = _download(endpoint, what)
        for name in needed:
            if name not in {Path(jar).name for jar in found}:
                raise ConfigurationError(
                    f"{name} is not among the jars of {endpoint}: delete {listing} and run again"
                )
        listing.write_text(os.pathsep.join(found))
    return found


def _download(endpoint: str, what: str) -> list[str]:
    console = Console(stderr=True)
    message = f"Fetching {what}, once"
    if not console.is_terminal:
        console.print(message)
    try:
        import jgo

        with console.status(message):
            return sorted(str(artifact.resolve()) for artifact in jgo.resolve(endpoint))
    except ImportError as error:
        raise ConfigurationError("jgo is missing: install the stack extra") from error
    except Exception as error:  # jgo passes on whatever its HTTP client raises
        raise ConfigurationError(
            f"{what} could not be fetched from Maven's central repository ({error}): "
            "check the network and proxy settings, then run the same command again"
        ) from error
