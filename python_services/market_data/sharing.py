"""Content of large snapshots as files in this host's memory: a reader maps one instead of receiving megabytes.

Only a shortcut: who cannot open a file gets the content in the answer, and the hash is checked either way. A process
has a folder for each data directory; what killed processes left behind is removed when the next one starts.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from python_services.kit import telemetry

MEMORY = Path("/dev/shm")
SHARED_FROM_BYTES = 64 * 1024


class SharedFiles:
    """The files of one data directory."""

    def __init__(self, data_dir: Path) -> None:
        mine = f"alphamesh-{os.getuid()}-"
        digest = hashlib.sha256(os.fsencode(data_dir.absolute())).hexdigest()[:16]
        self._folder = MEMORY / f"{mine}{os.getpid()}-{digest}"
        for folder in MEMORY.glob(f"{mine}*"):
            pid = folder.name.removeprefix(mine).partition("-")[0]
            if folder == self._folder or not Path("/proc", pid).exists():
                shutil.rmtree(folder, ignore_errors=True)

    def path(self, snapshot_id: str, content: bytes) -> str:
        """The file with `content`, written when it is not there yet; empty when it cannot be shared or is small."""
        if len(content) < SHARED_FROM_BYTES:
            return ""
        path = self._folder / snapshot_id
        if path.exists():
            return str(path)
        new = path.with_suffix(".new")
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            new.write_bytes(content)
            new.chmod(0o400)
            new.replace(path)
        except OSError as error:  # not there, or full: containers often have 64 MB
            new.unlink(missing_ok=True)
            telemetry.logger().warning("snapshot is sent, not shared", snapshot_id=snapshot_id, error=str(error))
            return ""
        return str(path)

    def remove(self, snapshot_id: str) -> None:
        """Who has opened it keeps it."""
        (self._folder / snapshot_id).unlink(missing_ok=True)

    async def close(self) -> None:
        """Removes everything."""
        shutil.rmtree(self._folder, ignore_errors=True)
