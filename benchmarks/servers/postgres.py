"""A PostgreSQL server in a temporary directory, with page checksums, for one test or one measurement."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import asyncpg

from mesh.postgres import PostgresError, find_programs, server_user


def missing() -> str:
    """Why there can be no server here; empty when there can."""
    try:
        find_programs()
    except PostgresError as error:
        return str(error)
    return ""


class PostgresServer:
    """Listens on a Unix socket in its own folder. Never runs as root: the server would refuse."""

    def __init__(self) -> None:
        """Raises PostgresError when PostgreSQL is not installed, RuntimeError when it does not start."""
        self._programs = find_programs()
        self._keep = tempfile.TemporaryDirectory(prefix="am-pg-", ignore_cleanup_errors=True)
        self.folder = Path(self._keep.name)
        self._data = self.folder / "data"
        self._user = server_user()
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        self._run("initdb", "--data-checksums", "--auth=trust", "--username=alphamesh", "--encoding=UTF8",
                  "--locale=C", "--pgdata", str(self._data))  # fmt: skip
        self.start()

    @property
    def dsn(self) -> str:
        """For asyncpg and libpq."""
        return f"postgresql://alphamesh@/postgres?host={self.folder}"

    @property
    def pid(self) -> int:
        """The server's first process."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def start(self) -> None:
        """Returns when it answers."""
        options = f"-k {self.folder} -c listen_addresses="
        self._run("pg_ctl", "start", "-w", "-D", str(self._data), "-l", str(self.folder / "log"), "-o", options)

    def configure(self, setting: str, value: str) -> None:
        """Changes a setting for all connections to come."""
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(f"{setting} = {value}\n")
        self._run("pg_ctl", "reload", "-D", str(self._data))
        time.sleep(0.2)  # the server reads it when it gets the signal

    async def execute(self, statement: str) -> None:
        """Runs one statement."""
        database = await asyncpg.connect(self.dsn)
        try:
            await database.execute(statement)
        finally:
            await database.close()

    def kill(self) -> None:
        """As a power cut would, but for the disk's cache; `start` recovers."""
        os.kill(self.pid, signal.SIGQUIT)
        self._run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(self._data), check=False)

    def close(self) -> None:
        """Stops it and removes everything."""
        self._run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(self._data), check=False)
        self._keep.cleanup()

    def _run(self, program: str, *arguments: str, check: bool = True) -> None:
        user = None if self._user is None else self._user.pw_uid
        group = None if self._user is None else self._user.pw_gid
        done = subprocess.run(
            [self._programs / program, *arguments], check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, user=user, group=group, extra_groups=[] if user is not None else None,
            cwd=self.folder, timeout=120,
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr.strip()}")
