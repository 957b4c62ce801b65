"""Shared by all command lines: errors as one clear line, exit codes, and reports as JSON."""

from __future__ import annotations

import json
import logging
import os
import pwd
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import structlog
import typer
from rich.console import Console

from schemas.errors import ConfigurationError, FraudError, TemporaryError

CONFIGURATION_ERROR: Final = 2
"""Exit code when the operator must change a setting, an option or a file."""
FAILURE: Final = 1
"""Exit code of any other failure."""
TEMPORARY_FAILURE: Final = 3
"""Exit code of a command for schedulers, when the same call may succeed later."""
CRASH: Final = 70
"""Exit code of a fault in the program itself (EX_SOFTWARE of sysexits.h); Python uses 1."""

NOT_FOR_OTHERS: Final = 0o027
"""Bits of a file mode that nothing we write has: state, archive and reports hold personal data."""

Json = Annotated[Path | None, typer.Option("--json", help="write the report here; - for stdout")]
"""The option of a command that writes a report; see `write_report`."""

errors = Console(stderr=True, highlight=False)
"""Text for people goes to standard error; standard output is for results."""


def say(text: str, style: str = "") -> None:
    """Print text for people; lines are not wrapped, so that paths in them can be copied."""
    errors.print(text, style=style, markup=False, soft_wrap=True)


def operator() -> str:
    """Return the account that runs this process, for the audit log; $USER is not trusted."""
    number = os.getuid()
    try:
        return f"command line: {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"command line: uid {number}"


def run_command(command: Callable[[], object], *, temporary: int = FAILURE) -> None:
    """Run a command; an error of ours is printed as one line and ends the process with its code.

    Any other exception is a crash: its traceback is printed, and the code is CRASH.
    `temporary` is the code of a TemporaryError. Until a service sets up its logs, only warnings are
    logged, on standard error: standard output is for results. What it writes is readable by its
    account and group alone, or by fewer if the account's own umask says so.
    """
    _log_warnings()
    os.umask(os.umask(NOT_FOR_OTHERS) | NOT_FOR_OTHERS)
    try:
        command()
    except FraudError as error:
        say(f"error: {error}", "red")
        if isinstance(error, TemporaryError):
            sys.exit(temporary)
        sys.exit(CONFIGURATION_ERROR if isinstance(error, ConfigurationError) else FAILURE)
    except Exception:
        traceback.print_exc()
        sys.exit(CRASH)


def _log_warnings() -> None:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


def require_folder(**paths: Path | None) -> None:
    """Refuse output files without an existing folder before the work begins, not after it.

    The keywords are the names of the options; an option that is not given is None.

    Raises:
        ConfigurationError: the folder of a file does not exist, or the path is a folder.
    """
    for option, path in paths.items():
        if path is not None and str(path) != "-" and (path.is_dir() or not path.parent.is_dir()):
            raise ConfigurationError(
                f"--{option} {path}: "
                + ("it is a folder" if path.is_dir() else f"there is no folder {path.parent}")
            )


def write_report(report: Mapping[str, Any] | Sequence[Any], path: Path | None) -> None:
    """Write the report as one line to a file, or to standard output if `path` is "-".

    Raises:
        ConfigurationError: the file cannot be written.
    """
    if path is None:
        return
    text = json.dumps(report)
    if str(path) == "-":
        print(text, flush=True)
        return
    try:
        path.write_text(text + "\n")
    except OSError as error:
        raise ConfigurationError(f"--json {path}: {error}") from error
