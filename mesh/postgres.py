"""A PostgreSQL of the run's own for the journals: Debian's server on a Unix socket, its data in the run directory.

The server refuses to run as root. Started by root, it runs as `postgres` or `nobody`, which then owns the data folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote

from . import logs
from .errors import MeshError
from .process import Process
from .rundir import RunDir

NAME = "postgres"
OWNER = "alphamesh"
_HOMES = ("/usr/lib/postgresql", "/usr/local/pgsql", "/usr/pgsql")
_USERS = ("postgres", "nobody")
_POLL_S = 0.02
_LOG_LINES = 12


class PostgresError(MeshError):
    """PostgreSQL cannot be started here."""


class PostgresServer:
    """One server for all journals of a run."""

    def __init__(self, run: RunDir) -> None:
        self.name = NAME
        self.version = ""
        self._log = run.log(NAME)
        self._folder = run.path / NAME
        self._socket = run.sockets / NAME
        self.user = server_user()

    @property
    def url(self) -> str:
        """For asyncpg and libpq. Who may open the socket's folder may connect."""
        return f"postgresql://{OWNER}@/postgres?host={quote(str(self._socket))}"

    async def prepare(self, environment: dict[str, str]) -> None:
        """Makes the data folder, once, and the socket's. Raises PostgresError."""
        find_programs()
        data, unfinished = self._folder / "data", self._folder / "data.new"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        shutil.rmtree(self._socket, ignore_errors=True)  # a killed server's lock of the socket lies there, too
        self._socket.mkdir(mode=0o700)
        if self.user is not None:
            self._make_reachable(self.user)
        if data.is_dir():
            self._drop_stale_lock(data)
            return
        if unfinished.exists():
            shutil.rmtree(unfinished)
        await self._initialise(unfinished, environment)
        unfinished.rename(data)

    def command(self) -> list[str]:
        """The command line. Raises PostgresError without the program."""
        folder = str(self._socket).replace('"', '""')
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": f'"{folder}"',
            "unix_socket_permissions": "0700",
            "log_line_prefix": "",  # the time is noted beside it
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(find_programs() / "postgres"), "-D", str(self._folder / "data"), *options]

    async def ready(self) -> None:
        """Returns when it answers; the caller bounds the wait."""
        import asyncpg  # here, so that who needs no PostgreSQL does not wait for it

        from python_services.kit.journal.postgres import AWAY

        while True:
            try:
                database: Any = await asyncpg.connect(self.url)
                break
            except AWAY:
                await asyncio.sleep(_POLL_S)
        try:
            self.version = str(await database.fetchval("SHOW server_version")).partition(" ")[0]
        finally:
            await database.close()

    def last_words(self) -> str:
        """The end of its log."""
        return logs.excerpt(self._log, _LOG_LINES)

    def _make_reachable(self, user: pwd.struct_passwd) -> None:
        """Gives the folders to `user`, and the way to the socket to its group."""
        closed = next((parent for parent in self._folder.parents if not _may_enter(user, parent)), None)
        if closed is not None:
            raise PostgresError(
                f"PostgreSQL does not run as root, and {user.pw_name!r} cannot enter {closed}; choose a --data-dir "
                f"that it can reach, allow it with `chmod o+x {closed}`, or run as another user"
            )
        for path in (self._folder, *self._folder.rglob("*"), self._socket):
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
        os.chown(self._socket.parent, -1, user.pw_gid)
        self._socket.parent.chmod(0o710)

    def _drop_stale_lock(self, data: Path) -> None:
        """PostgreSQL believes in the process id of a killed server while any process has it, dead or another's."""
        lock = data / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError):
            pid = lock.read_text().split("\n", 1)[0]
            try:
                owned = str(data).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                return  # no such process: the server sees that by itself
            if not owned:
                lock.unlink()

    async def _initialise(self, folder: Path, environment: dict[str, str]) -> None:
        command = [
            str(find_programs() / "initdb"), "--data-checksums", "--auth=trust", f"--username={OWNER}",
            "--encoding=UTF8", "--locale=C", "--pgdata", str(folder),
        ]  # fmt: skip
        process = await Process.start(self.name, command, self._log, environment, user=self.user)
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if code:
            raise PostgresError(f"initdb ended with status {code}\n{self.last_words()}")


def find_programs() -> Path:
    """The folder of the server's programs; the newest when there are several. Raises PostgresError."""
    on_path = shutil.which("initdb")
    found = [Path(on_path).parent] if on_path else []
    for home in _HOMES:
        found += sorted(Path(home).glob("**/bin"), key=_version, reverse=True)
    for folder in found:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise PostgresError("PostgreSQL is not installed; `make postgres` installs it on Debian")


def server_user() -> pwd.struct_passwd | None:
    """Who the server runs as; None for this process's own user. Raises PostgresError."""
    if os.geteuid() != 0:
        return None
    for name in _USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise PostgresError("PostgreSQL does not run as root, and there is no user `postgres` or `nobody`; run as another")


def _may_enter(user: pwd.struct_passwd, folder: Path) -> bool:
    facts = folder.stat()
    shift = 6 if facts.st_uid == user.pw_uid else 3 if facts.st_gid == user.pw_gid else 0
    return bool(facts.st_mode >> shift & 1)


def _version(folder: Path) -> float:
    digits = folder.parent.name
    return float(digits) if digits.replace(".", "", 1).isdigit() else 0.0
