"""A file of JSON lines that only grows. A line is durable when `append` returns; a torn last one was never written."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import orjson

from python_services.kit.config import ConfigError


class Lines:
    """One writer at a time. Raises ConfigError for a second one, and for a line that is no JSON object."""

    def __init__(self, path: Path, *, write: bool) -> None:
        self._path = path
        self._file: int | None = None
        if write:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._file)
                raise ConfigError(f"{path} is being written by another process; give each its own file") from None

    def read(self) -> list[dict[str, Any]]:
        """All lines. Whoever writes cuts off what a crash has left of the last one."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            raise ConfigError(f"{self._path} is not there; record it first, or correct the path") from None
        whole = content.rfind(b"\n") + 1
        if whole < len(content) and self._file is not None:
            os.ftruncate(self._file, whole)
        found = []
        for number, line in enumerate(content[:whole].splitlines(), start=1):
            try:
                value = orjson.loads(line)
            except orjson.JSONDecodeError:
                value = None
            if not isinstance(value, dict):
                raise ConfigError(f"{self._path}:{number}: no JSON object; restore the file, or begin a new one")
            found.append(value)
        return found

    def append(self, value: dict[str, Any]) -> None:
        """Adds a line and waits until it is on the disk."""
        assert self._file is not None, "opened for reading"
        os.write(self._file, orjson.dumps(value) + b"\n")
        os.fsync(self._file)

    def close(self) -> None:
        """Lets another write."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
