"""Jars from Maven's central repository, kept between runs and clones.

`jars.toml` beside this file names every jar and the SHA-256 that it must have. Nothing else is
downloaded, and no jar is used whose bytes differ from it, whoever put it where it lies.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import tomllib
from pathlib import Path
from typing import Final, NamedTuple

from rich.console import Console

from schemas.errors import ConfigurationError

LOCK: Final = Path(__file__).with_name("jars.toml")


class Jar(NamedTuple):
    """A jar that is allowed: its Maven coordinates and the SHA-256 of its bytes."""

    group: str
    artefact: str
    version: str
    sha256: str

    @property
    def name(self) -> str:
        """File name."""
        return f"{self.artefact}-{self.version}.jar"


def cache_dir() -> Path:
    """Return the directory in which downloads are kept between runs and clones."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "fraud-scoring"


def pinned_jars(lock: Path = LOCK) -> dict[str, list[Jar]]:
    """Return all jars that may be used, by what they are for."""
    groups: dict[str, dict[str, str]] = tomllib.loads(lock.read_text())
    return {what: [_jar(*each) for each in jars.items()] for what, jars in groups.items()}


def _jar(coordinates: str, sha256: str) -> Jar:
    group, artefact, version = coordinates.split(":")
    return Jar(group, artefact, version, sha256)


def fetch_jars(jars: list[Jar], what: str) -> list[str]:
    """Return the paths of `jars`, which are downloaded the first time; all are verified each time.

    Args:
        jars: some of `pinned_jars`.
        what: name of the download in messages.

    Raises:
        ConfigurationError: a jar cannot be downloaded, or is not the one that is pinned.
    """
    root = cache_dir() / "jars"
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may both find the cache empty
        missing = [jar for jar in jars if not (root / jar.name).is_file()]
        if missing:
            _download(missing, root, what)
        for jar in jars:
            _verify(jar, root / jar.name)
    return [str(root / jar.name) for jar in jars]


def _verify(jar: Jar, path: Path) -> None:
    with path.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != jar.sha256:
        raise ConfigurationError(
            f"{path} is not the jar that is pinned: its SHA-256 is {found}, but {LOCK.name} "
            f"expects {jar.sha256}: find out who changed it, delete it, and run the same command "
            "again"
        )


def _download(jars: list[Jar], root: Path, what: str) -> None:
    """Put verified copies of `jars` into `root`, from this machine's Maven cache where it has them.

    A jar appears in `root` whole and verified, or not at all.
    """
    console = Console(stderr=True)
    message = f"Fetching {what}, once"
    if not console.is_terminal:
        console.print(message)
    try:
        from jgo.constants import default_maven_repo
        from jgo.maven import MavenContext
    except ImportError as error:
        raise ConfigurationError("jgo is missing: install the stack extra") from error
    with console.status(message), tempfile.TemporaryDirectory(dir=root) as staging:
        maven = MavenContext(repo_cache=Path(staging), local_repos=[default_maven_repo()])
        for jar in jars:
            project = maven.project(jar.group, jar.artefact)
            try:
                found = project.at_version(jar.version).artifact().resolve()
            except Exception as error:  # jgo passes on whatever its HTTP client raises
                raise ConfigurationError(
                    f"{jar.name} could not be fetched from Maven's central repository ({error}): "
                    "check the network and proxy settings, then run the same command again"
                ) from error
            _verify(jar, found)
            copy = Path(shutil.copyfile(found, Path(staging) / jar.name))
            _verify(jar, copy)
            os.replace(copy, root / jar.name)
