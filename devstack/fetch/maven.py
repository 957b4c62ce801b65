"""Jars of Maven's central repository, kept between runs and clones."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from schemas.errors import ConfigurationError


def cache_dir() -> Path:
    """Return where downloads are kept between runs and clones."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "fraud-scoring"


def jars(endpoint: str, what: str, needed: Sequence[str]) -> list[str]:
    """Return the jars of `endpoint` (group:artefact:version+…), downloading them the first time.

    Maven's own folder keeps them; `what` and the file names that are `needed` are for people.

    Raises:
        ConfigurationError: they cannot be had.
    """
    root = cache_dir()
    root.mkdir(parents=True, exist_ok=True)
    # The name changes with what was asked for, so an older answer is never taken for this one.
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
    except Exception as error:  # jgo raises whatever its HTTP client does
        raise ConfigurationError(
            f"{what} could not be fetched from Maven's central repository ({error}): "
            "check the network and proxy settings, then run the same command again"
        ) from error
