"""The manifest of a model bundle: its files and their SHA-256 hashes.

It is written last and read first. The model's event carries the SHA-256 of the manifest itself, so
that one hash vouches for every file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from schemas.errors import ConfigurationError

MANIFEST_NAME: Final = "manifest.json"
FORMAT: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Contents of manifest.json; `files` maps a plain file name to its hex SHA-256."""

    model_id: str
    fingerprint: bytes
    files: Mapping[str, str]


def sha256(data: bytes) -> str:
    """Return the hex SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def write_manifest(directory: Path, model_id: str, fingerprint: bytes) -> str:
    """Hash every file of `directory`, write manifest.json, return the manifest's own SHA-256."""
    files = {
        path.name: sha256(path.read_bytes())
        for path in sorted(directory.iterdir())
        if path.is_file() and path.name != MANIFEST_NAME
    }
    document = {
        "format": FORMAT,
        "model_id": model_id,
        "fingerprint": fingerprint.hex(),
        "files": files,
    }
    data = json.dumps(document, indent=1, sort_keys=True).encode()
    (directory / MANIFEST_NAME).write_bytes(data)
    return sha256(data)


def read_verified(directory: Path, expected_sha256: str) -> tuple[Manifest, dict[str, bytes]]:
    """Return the manifest and the bytes of each file, after checking their hashes.

    The bytes that were hashed are the bytes returned, so a file cannot change in between.

    Raises:
        ConfigurationError: a file is missing, has another hash, or the manifest is not readable.
    """
    data = _read(directory / MANIFEST_NAME)
    if sha256(data) != expected_sha256:
        raise ConfigurationError(
            f"{directory / MANIFEST_NAME}: SHA-256 is {sha256(data)}, the registry says "
            f"{expected_sha256}: publish the bundle again"
        )
    try:
        document = json.loads(data)
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']} is not {FORMAT}: train it again")
        files = {str(name): str(value) for name, value in document["files"].items()}
        manifest = Manifest(
            model_id=str(document["model_id"]),
            fingerprint=bytes.fromhex(document["fingerprint"]),
            files=files,
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"{directory / MANIFEST_NAME} is not a manifest: {error}"
        ) from error
    contents: dict[str, bytes] = {}
    for name, expected in files.items():
        if Path(name).name != name or name in {"", ".", ".."}:
            raise ConfigurationError(f"{directory}: file name {name!r} leaves the bundle")
        content = _read(directory / name)
        if sha256(content) != expected:
            raise ConfigurationError(
                f"{directory / name}: SHA-256 is {sha256(content)}, the manifest says {expected}"
            )
        contents[name] = content
    return manifest, contents


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
