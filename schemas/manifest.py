"""The manifest of a model bundle: its files and their SHA-256 hashes.

It is written last and read first. The model's event carries the SHA-256 of the manifest itself, so
that one hash vouches for every file. A signed manifest also has a number, which rises from one
signature to the next: it tells old signatures from new ones.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from schemas.bundle_files import MB, BundleFolder
from schemas.errors import ConfigurationError

MANIFEST_NAME: Final = "manifest.json"
SIGNATURE_NAME: Final = "manifest.sig"
"""The Ed25519 signature (64 bytes) of the bytes of manifest.json."""
FORMAT: Final = 2
MAX_FILES: Final = 64
MAX_MANIFEST_BYTES: Final = 64 * 1024
MAX_FILE_BYTES: Final = 64 * MB
MAX_BUNDLE_BYTES: Final = 128 * MB
"""Most bytes of all files of a bundle together; those that the trainer writes have about 5 MB."""
_SIGNATURE_BYTES: Final = 64
_FINGERPRINT_BYTES: Final = 8
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Contents of manifest.json; `files` maps a plain file name to its hex SHA-256.

    `number` is that of the signature, None for a manifest that was never signed.
    """

    model_id: str
    fingerprint: bytes
    files: Mapping[str, str]
    number: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleTrust:
    """Which bundles are accepted: any with the right hash, or only those that a key has signed.

    `public_key` has 32 bytes (Ed25519). A signed manifest whose number is below `oldest` is
    refused.
    """

    public_key: bytes | None = None
    oldest: int = 0


ANYBODY: Final = BundleTrust()
"""Accepts every bundle with the right hash, signed or not."""


def sha256(data: bytes) -> str:
    """Return the hex SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def manifest_sha256(directory: Path) -> str:
    """Return the hex SHA-256 of a bundle's manifest, which names this state of the bundle.

    Raises:
        ConfigurationError: the directory is not a bundle, as it has no manifest.
    """
    if not (directory / MANIFEST_NAME).is_file():
        raise ConfigurationError(
            f"{directory} is not a bundle: {MANIFEST_NAME} is missing; "
            "train one with `python -m trainer bootstrap`"
        )
    with BundleFolder(directory) as folder:
        return sha256(folder.read(MANIFEST_NAME, MAX_MANIFEST_BYTES))


def write_manifest(
    directory: Path, model_id: str, fingerprint: bytes, number: int | None = None
) -> str:
    """Hash every file of `directory`, write manifest.json, return the manifest's own SHA-256.

    `number` belongs to a manifest that is to be signed.
    """
    with BundleFolder(directory) as folder:
        files = {
            path.name: sha256(folder.read(path.name, MAX_FILE_BYTES))
            for path in sorted(directory.iterdir())
            if path.is_file() and path.name not in (MANIFEST_NAME, SIGNATURE_NAME)
        }
    document: dict[str, Any] = {
        "format": FORMAT,
        "model_id": model_id,
        "fingerprint": fingerprint.hex(),
        "files": files,
    }
    if number is not None:
        document["number"] = number
    data = json.dumps(document, indent=1, sort_keys=True).encode()
    (directory / MANIFEST_NAME).write_bytes(data)
    return sha256(data)


def read_verified(
    directory: Path, expected_sha256: str, trust: BundleTrust = ANYBODY
) -> tuple[Manifest, dict[str, bytes]]:
    """Return the manifest and the bytes of each file, after checking hashes and signature.

    Every file is read once. The bytes that were hashed, and those whose signature was checked, are
    the bytes returned, so nothing can change in between.

    Raises:
        ConfigurationError: a file is missing, is not a regular file, is too large or has another
            hash, or the manifest is not readable or not signed as `trust` demands.
    """
    path = directory / MANIFEST_NAME
    with BundleFolder(directory) as folder:
        data = folder.read(MANIFEST_NAME, MAX_MANIFEST_BYTES)
        if sha256(data) != expected_sha256:
            raise ConfigurationError(
                f"{path}: SHA-256 is {sha256(data)}, the registry says {expected_sha256}: "
                "publish the bundle again"
            )
        if trust.public_key is not None:
            _check_signature(folder, data, trust.public_key)
        manifest = _parsed(path, data)
        if trust.public_key is not None:
            _check_number(path, manifest.number, trust.oldest)
        contents: dict[str, bytes] = {}
        left = MAX_BUNDLE_BYTES
        for name, expected in manifest.files.items():
            content = folder.read(name, min(left, MAX_FILE_BYTES))
            left -= len(content)
            if sha256(content) != expected:
                raise ConfigurationError(
                    f"{directory / name}: SHA-256 is {sha256(content)}, the manifest says "
                    f"{expected}"
                )
            contents[name] = content
    return manifest, contents


def _parsed(path: Path, data: bytes) -> Manifest:
    try:
        document = json.loads(data)
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']!r} is not {FORMAT}: train it again")
        files = {str(name): str(value) for name, value in document["files"].items()}
        if len(files) > MAX_FILES:
            raise ValueError(f"it names {len(files)} files, at most {MAX_FILES} are allowed")
        for name, value in files.items():
            if not _PLAIN_NAME.fullmatch(name) or name in (MANIFEST_NAME, SIGNATURE_NAME):
                raise ValueError(f"file name {name!r} leaves the bundle or is not a plain name")
            if not _SHA256.fullmatch(value):
                raise ValueError(f"{value!r} is not the SHA-256 of {name}")
        fingerprint = bytes.fromhex(document["fingerprint"])
        if len(fingerprint) != _FINGERPRINT_BYTES:
            raise ValueError(f"the fingerprint has {len(fingerprint)} bytes")
        model_id, number = document["model_id"], document.get("number")
        if not isinstance(model_id, str) or not model_id:
            raise ValueError(f"model_id {model_id!r} is not a name")
        if number is not None and (type(number) is not int or not 0 < number < 2**63):
            raise ValueError(f"number {number!r} is not a positive integer")
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"{path} is not a manifest: {type(error).__name__}: {error}"
        ) from error
    return Manifest(model_id=model_id, fingerprint=fingerprint, files=files, number=number)


def _check_signature(folder: BundleFolder, signed: bytes, public_key: bytes) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        signature = folder.read(SIGNATURE_NAME, _SIGNATURE_BYTES)
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, signed)
    except (ConfigurationError, ValueError, InvalidSignature) as error:
        raise ConfigurationError(
            f"{folder.path}: the manifest is not signed by the key of FRAUD_BUNDLE_PUBLIC_KEY "
            f"({type(error).__name__}: {error}): sign it with `python -m trainer sign`, or unset "
            "the key"
        ) from error


def _check_number(path: Path, number: int | None, oldest: int) -> None:
    if number is None:
        raise ConfigurationError(
            f"{path} is signed but has no number, so an old signature could be used again: sign it "
            "with `python -m trainer sign`"
        )
    if number < oldest:
        raise ConfigurationError(
            f"{path} was signed with the number {number}, but FRAUD_BUNDLE_OLDEST is {oldest}: "
            "sign it again if it is still to be used"
        )
