"""Writes `jars.toml` anew after a version was raised: `python -m devstack pin`."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from devstack.fetch.maven import LOCK
from schemas.errors import ConfigurationError

_HEAD: Final = (
    "# Every jar that may be downloaded, by what it is for, and the SHA-256 that it must have.\n"
    "# Written by `python -m devstack pin`: read the difference before you commit it.\n"
)


def pin(endpoints: Mapping[str, str], lock: Path = LOCK) -> int:
    """Resolve and download what `endpoints` need, and write coordinates and hashes to `lock`.

    Nothing is taken from this machine's caches. Returns the number of jars.

    Args:
        endpoints: artefacts as "group:artefact:version", joined by "+", by what they are for.
        lock: the file to write.

    Raises:
        ConfigurationError: jgo is missing, or a jar cannot be downloaded.
    """
    try:
        import jgo
        from jgo.maven import MavenContext
    except ImportError as error:
        raise ConfigurationError("jgo is missing: install the stack extra") from error
    lines, count = [_HEAD], 0
    with tempfile.TemporaryDirectory() as empty:
        maven = MavenContext(repo_cache=Path(empty))
        for what, endpoint in endpoints.items():
            lines.append(f"\n[{what}]\n")
            try:
                found = {
                    (each.groupId, each.artifactId, each.version)
                    for each in jgo.resolve(endpoint)
                    if each.packaging == "jar"
                }
                for group, artefact, version in sorted(found):
                    jar = maven.project(group, artefact).at_version(version).artifact().resolve()
                    digest = hashlib.sha256(jar.read_bytes()).hexdigest()
                    lines.append(f'"{group}:{artefact}:{version}" = "{digest}"\n')
            except Exception as error:  # jgo passes on whatever its HTTP client raises
                raise ConfigurationError(
                    f"the jars of {endpoint} could not be fetched from Maven's central repository "
                    f"({error}): check the network and proxy settings, then run the same command "
                    "again"
                ) from error
            count += len(found)
    lock.write_text("".join(lines))
    return count
