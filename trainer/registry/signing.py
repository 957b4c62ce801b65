"""Signs bundles with the private key of FRAUD_BUNDLE_SIGNING_KEY, so that scorers load them.

Every signature has a number, the time at which it was made (ms since the epoch). An old signature
can therefore be told from a new one, and FRAUD_BUNDLE_OLDEST can put an end to all old ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.clock import SystemClock
from runtime.settings import Settings
from schemas.errors import ConfigurationError
from schemas.manifest import MANIFEST_NAME, SIGNATURE_NAME, write_manifest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs with a private key; `number` returns the next number, which never falls."""

    key: Ed25519PrivateKey
    number: Callable[[], int] = SystemClock().now_ms

    def sign(self, directory: Path, model_id: str, fingerprint: bytes) -> str:
        """Write the manifest of a bundle and its signature; return the manifest's SHA-256.

        Raises:
            OSError: a file cannot be written.
        """
        digest = write_manifest(directory, model_id, fingerprint, self.number())
        signature = self.key.sign((directory / MANIFEST_NAME).read_bytes())
        (directory / SIGNATURE_NAME).write_bytes(signature)
        return digest


def signer_of(settings: Settings, *, required: bool) -> Signer | None:
    """Return what signs bundles, None if they are not signed.

    Args:
        required: scorers are to load the bundles, so with a public key they must be signed.

    Raises:
        ConfigurationError: a signature is required and there is no private key, or it is not the
            private key of FRAUD_BUNDLE_PUBLIC_KEY.
    """
    path, public_key = settings.bundle_signing_key, settings.bundle_trust.public_key
    if path is None:
        if required and public_key is not None:
            raise ConfigurationError(
                "FRAUD_BUNDLE_PUBLIC_KEY is set, so scorers refuse unsigned bundles, but "
                "FRAUD_BUNDLE_SIGNING_KEY is not: name the file of the private key, or unset the "
                "public one everywhere"
            )
        return None
    key = _private_key(path)
    if public_key is not None and key.public_key().public_bytes_raw() != public_key:
        raise ConfigurationError(
            f"FRAUD_BUNDLE_SIGNING_KEY: {path} is not the private key of FRAUD_BUNDLE_PUBLIC_KEY, "
            "so scorers would refuse what it signs"
        )
    return Signer(key)


def _private_key(path: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"FRAUD_BUNDLE_SIGNING_KEY: {path} is not a private key without a password: {error}"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(
            f"FRAUD_BUNDLE_SIGNING_KEY: {path} is not an Ed25519 key: make one with "
            "`openssl genpkey -algorithm ed25519`"
        )
    return key
