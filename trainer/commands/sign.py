"""`python -m trainer sign`: signs a bundle that was not signed when it was written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runtime.command_line import say
from runtime.settings import load_settings
from schemas.errors import ConfigurationError
from schemas.manifest import manifest_sha256, read_verified


def sign(
    bundle: Annotated[Path, typer.Argument(help="directory of the bundle")],
) -> None:
    """Sign a bundle with FRAUD_BUNDLE_SIGNING_KEY, under a new number. Register it afterwards.

    The manifest changes, and with it the hash that a registry may already have of the bundle.

    Example: python -m trainer sign var/models/bootstrap-1
    """
    from trainer.registry.signing import signer_of

    signer = signer_of(load_settings(), required=True)
    if signer is None:
        raise ConfigurationError(
            "FRAUD_BUNDLE_SIGNING_KEY is not set: name the file of a private key (PEM)"
        )
    manifest, _ = read_verified(bundle, manifest_sha256(bundle))
    try:
        digest = signer.sign(bundle, manifest.model_id, manifest.fingerprint)
    except OSError as error:
        raise ConfigurationError(f"{bundle} cannot be signed: {error}") from error
    say(f"{manifest.model_id} is signed; the SHA-256 of its manifest is {digest}")
