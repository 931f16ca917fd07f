"""Snapshots, and their texts, as files in this host's memory: the other services of a run need not ask for them.

Only a shortcut: who finds no file asks, and the hashes are checked either way. A file is complete when it gets its
name, the snapshot's id or the texts' hash, and never changes. A run has a folder; a lock on it says that its
market_data lives, and what killed ones left behind is removed when the next one starts.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from python_services.kit import snapshots, telemetry


class SharedFiles:
    """The files of one run, in `folder`: see `snapshots.folder_of`."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError when nothing can be shared there."""
        self._folder = folder
        self._lock = _hold(folder)
        self.room = shutil.disk_usage(folder).free // 2  # bytes: others want some, too
        for left in folder.iterdir():
            left.unlink()
        for other in folder.parent.glob(f"{folder.name.rpartition('-')[0]}-*"):
            if other != folder:
                _remove_unless_held(other)

    def write(self, snapshot_id: str, batch: pa.RecordBatch) -> mmap.mmap | None:
        """Writes what `snapshots.seal` made; its content, or None when there is no room for it."""
        path = self._place(snapshot_id, lambda sink: snapshots.write(batch, sink))
        if path is None:
            return None
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)

    def put(self, sha256: str, content: bytes) -> None:
        """Writes what is named by its hash, where there is room for it and it is not there yet."""
        if not (self._folder / sha256).exists():
            self._place(sha256, lambda sink: sink.write(content))

    def remove(self, name: str) -> None:
        """Who has opened it keeps it."""
        (self._folder / name).unlink(missing_ok=True)

    def _place(self, name: str, fill: Callable[[Any], object]) -> Path | None:
        path = self._folder / name
        new = path.with_suffix(".new")
        try:
            with pa.OSFile(str(new), "wb") as sink:
                fill(sink)
            new.chmod(0o400)
            return new.replace(path)
        except OSError as error:  # full: containers often have 64 MB
            new.unlink(missing_ok=True)
            telemetry.logger().warning("what was cut is sent, not shared", name=name, error=str(error))
            return None

    async def close(self) -> None:
        """Removes everything."""
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._lock)


def share(folder: Path | None) -> SharedFiles | None:
    """None where nobody reads files, or none can be written; the log says why."""
    if folder is None:
        return None
    try:
        return SharedFiles(folder)
    except OSError as error:
        telemetry.logger().warning("snapshots are sent, not shared", folder=str(folder), error=str(error))
        return None


def _hold(folder: Path) -> int:
    """Makes the folder, for its owner only, and locks it until this process ends."""
    while True:
        folder.mkdir(mode=0o700, exist_ok=True)
        held = _opened(folder)
        fcntl.flock(held, fcntl.LOCK_EX)
        facts = os.fstat(held)
        if facts.st_uid != os.getuid() or facts.st_mode & 0o077:
            os.close(held)
            raise PermissionError(f"{folder} belongs to somebody else, or others may look into it; remove it")
        if folder.exists() and os.path.samestat(facts, folder.stat()):
            return held
        os.close(held)  # somebody who took it for left behind has removed it


def _remove_unless_held(folder: Path) -> None:
    try:
        held = _opened(folder)
    except OSError:  # gone, or not ours
        return
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        return
    finally:
        os.close(held)


def _opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
