"""Reading a policy from a YAML or JSON file."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from schemas.errors import ConfigurationError


def policy_text(path: Path) -> str:
    """Return the policy of a .yaml, .yml or .json file as the JSON text that the topic carries.

    The policy itself is not checked; `compile_policy` does that.

    Raises:
        ConfigurationError: the file cannot be read or is not valid YAML.
    """
    try:
        text = path.read_text()
        if path.suffix not in {".yaml", ".yml"}:
            return text
        return json.dumps(yaml.safe_load(text), default=str)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"cannot read the policy {path}: {error}") from error
