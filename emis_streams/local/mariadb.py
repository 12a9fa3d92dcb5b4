"""A MariaDB server in a folder of its own: root without a password, on loopback only."""

import getpass
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from emis_streams.local.errors import LocalStackError
from emis_streams.local.ports import HOST, free_port, is_answering
from emis_streams.local.process import Child

_START_TIMEOUT_SECONDS = 30.0
_POLL_SECONDS = 0.05


class MariaDb:
    """Data in the folder is kept between runs; `port`: a free one by default."""

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        self.folder = folder.absolute()
        self.port = port or free_port()
        self._data = self.folder / "data"
        self._temporary = self.folder / "tmp"  # A server that starts deletes all temporary tables of its `tmpdir`.
        self.process = Child("mariadb", self._command(), self.folder)

    def url(self, database: str = "", user: str = "root", password: str = "") -> str:
        """mysql://user:password@host:port/database"""
        credentials = f"{user}:{password}" if password else user
        return f"mysql://{credentials}@{HOST}:{self.port}/{database}"

    def start(self) -> None:
        """Install the system tables if new, start, wait until it answers; raises LocalStackError."""
        self._temporary.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "installed").exists():
            self._install()
        self.process.start()
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        while not is_answering(self.port):
            if not self.process.running or time.monotonic() > deadline:
                raise LocalStackError(f"MariaDB did not start; its log ends:\n{self.process.log_tail()}")
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        self.process.stop()

    def create(self, database: str) -> str:
        """Make an empty database and a user of the same name (password too) if missing; returns the user's URL."""
        self.execute(
            f"CREATE DATABASE IF NOT EXISTS `{database}` CHARACTER SET utf8mb4;"
            f"CREATE USER IF NOT EXISTS '{database}'@'%' IDENTIFIED BY '{database}';"
            f"GRANT ALL ON `{database}`.* TO '{database}'@'%';"
        )
        return self.url(database, user=database, password=database)

    def drop(self, database: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS `{database}`;")

    def execute(self, statements: str) -> str:
        """Run SQL as root by the server's own client; returns its output, raises LocalStackError."""
        client = _program("mariadb")
        command = [client, "--no-defaults", f"--host={HOST}", f"--port={self.port}", "--user=root", "--batch"]
        done = subprocess.run(command, input=statements, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise LocalStackError(f"MariaDB refused {statements!r}: {done.stderr.strip()}")
        return done.stdout

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _command(self) -> list[str]:
        return [
            _program("mariadbd"),
            "--no-defaults",
            f"--datadir={self._data}",
            f"--tmpdir={self._temporary}",
            "--socket=mariadb.sock",  # within datadir: a full path might be longer than a socket's may be
            f"--pid-file={self.folder / 'server.pid'}",
            f"--bind-address={HOST}",
            f"--port={self.port}",
            f"--user={getpass.getuser()}",
            "--skip-name-resolve",
        ]

    def _install(self) -> None:
        """Into an empty folder; what an interrupted installation left is removed first."""
        shutil.rmtree(self._data, ignore_errors=True)
        command = [
            _program("mariadb-install-db"),
            "--no-defaults",
            f"--datadir={self._data}",
            f"--tmpdir={self._temporary}",
            f"--user={getpass.getuser()}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise LocalStackError(f"MariaDB's tables could not be made in {self._data}:\n{done.stderr[-2000:]}")
        (self.folder / "installed").touch()


def _program(name: str) -> str:
    """Full path; Debian keeps servers in sbin, which is not on everyone's PATH."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
    if found is None:
        raise LocalStackError(f"{name} is not installed (Debian: apt-get install mariadb-server)")
    return found
