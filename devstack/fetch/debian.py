"""Unpacks Debian packages into the cache, without root."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from devstack.fetch.maven import cache_dir
from schemas.errors import ConfigurationError

_MAX_S: Final = 300.0


def unpack(package: str, paths: Sequence[str], *, with_needed: bool = False) -> Path:
    """Return the directory that holds the unpacked package, which is downloaded the first time.

    Args:
        paths: files that the package must contain.
        with_needed: also unpack its dependencies that are not installed on this machine.

    Raises:
        ConfigurationError: this is not Debian or Ubuntu, or the package cannot be downloaded.
    """
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise ConfigurationError(
                f"{tool} is missing: install {package} and put its programs on the path"
            )
    root = cache_dir() / f"debian-{package}"
    root.mkdir(parents=True, exist_ok=True)
    files = root / "files"
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may both find the cache empty
        if not all((files / path).is_file() for path in paths):
            _unpack(package, root, files, with_needed)
    for path in paths:
        if not (files / path).is_file():
            raise ConfigurationError(
                f"Debian's package {package} does not contain {path}: install the program yourself"
            )
    return files


def _unpack(package: str, root: Path, files: Path, with_needed: bool) -> None:
    Console(stderr=True).print(f"Fetching Debian's {package} (once, into {root})")
    archives, made = root / "cache" / "archives", root / "unpacking"
    for old in (archives, made, files):
        shutil.rmtree(old, ignore_errors=True)
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    ours = ["-o", "Debug::NoLocking=true", "-o", f"Dir::Cache={root / 'cache'}"]
    get = ["download"]
    if with_needed:
        get = ["install", "--download-only", "--yes", "--no-install-recommends"]
    try:
        _run(["apt-get", *get, package, *ours], archives)
    except ConfigurationError:  # container images come without package lists: download our own
        lists = root / "lists"
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        ours += ["-o", f"Dir::State::Lists={lists}"]
        _run(["apt-get", "update", *ours], archives)
        _run(["apt-get", *get, package, *ours], archives)
    for archive in archives.glob("*.deb"):
        _run(["dpkg-deb", "--extract", str(archive), str(made)], root)
        archive.unlink()
    made.rename(files)  # atomic: a reader never sees half a package


def _run(command: list[str], where: Path) -> None:
    """Run one step of the download in the directory `where`; ConfigurationError if it fails."""
    try:
        answer = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=_MAX_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigurationError(f"{' '.join(command)}: {error}") from error
    if answer.returncode != 0:
        raise ConfigurationError(
            f"{' '.join(command)} failed: {answer.stderr.strip()[-500:]}: check the network, or "
            "install the package and put its programs on the path"
        )
