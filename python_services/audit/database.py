"""SQLite files of this service: projections and telemetry, no truth, so none of them waits for the disk.

A kill loses nothing. A file that cannot be opened, or was made by another version, is started anew.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from python_services.kit import telemetry


def open_database(path: Path, schema: str, version: int) -> sqlite3.Connection:
    """The database in `path`, with `schema`; this process is its only user."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _open(path, schema, version)
    except sqlite3.DatabaseError as error:
        telemetry.logger().warning("file refused; beginning anew", path=str(path), error=str(error))
        for leftover in path.parent.glob(f"{path.name}*"):
            leftover.unlink()
        return _open(path, schema, version)


def _open(path: Path, schema: str, wanted: int) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=1.0)
    try:
        for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=NORMAL"):
            database.execute(f"PRAGMA {pragma}")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            database.executescript(f"{schema}PRAGMA user_version={wanted};")
        elif version != wanted:
            raise sqlite3.DatabaseError(f"{path} is of version {version}, this is {wanted}")
    except sqlite3.Error:
        database.close()
        raise
    return database
