"""A software bill of materials (CycloneDX) of all Python packages and jars that are locked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from devstack.fetch.maven import Jar, pinned_jars
from schemas.errors import ConfigurationError

ROOT: Final = Path(__file__).parents[1]


def write_sbom(output: Path) -> int:
    """Write every entry of requirements.lock and jars.toml, with its hashes, as CycloneDX JSON.

    The same locks give the same bytes. Returns the number of components.

    Raises:
        ConfigurationError: this is not a clone of the repository, a development package is missing,
            or the file cannot be written.
    """
    bill = _python_part()
    bill["components"] += [_component(jar) for jars in pinned_jars().values() for jar in jars]
    references = [each["bom-ref"] for each in bill["components"]]
    ours = bill["metadata"]["component"]["bom-ref"]
    bill["dependencies"] = [
        {"ref": ours, "dependsOn": references},
        *({"ref": reference} for reference in references),
    ]
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(bill, indent=1, sort_keys=True) + "\n")
    except OSError as error:
        raise ConfigurationError(f"--output {output}: {error}") from error
    return len(references)


def _component(jar: Jar) -> dict[str, Any]:
    purl = f"pkg:maven/{jar.group}/{jar.artefact}@{jar.version}?type=jar"
    return {
        "type": "library",
        "bom-ref": purl,
        "group": jar.group,
        "name": jar.artefact,
        "version": jar.version,
        "purl": purl,
        "hashes": [{"alg": "SHA-256", "content": jar.sha256}],
    }


def _python_part() -> Any:
    """Return the bill of requirements.lock, as the tool of CycloneDX makes it."""
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", "requirements.lock"]
    command += ["--pyproject", "pyproject.toml", "--short-PURLs", "--output-reproducible"]
    # Checking its own output takes the tool ten times as long as making it; a test does it.
    command += ["--spec-version", "1.6", "--no-validate"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if answer.returncode != 0:
        raise ConfigurationError(
            f"the requirements of {ROOT} could not be read: {answer.stderr.strip()[-500:]}: run "
            "this command in a clone of the repository, with the dev extra installed"
        )
    return json.loads(answer.stdout)
