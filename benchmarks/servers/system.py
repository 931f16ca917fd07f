"""A system of the project's own, up until this process ends: what is measured through real processes."""

from __future__ import annotations

import atexit
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import synthetic_universe

ALPHAMESH = Path(sys.executable).with_name("alphamesh")


class System:
    """The synthetic universe, and a topology over it; {folder} in its text is where the universe lies."""

    def __init__(self, topology: str, *, instruments: int, days: int) -> None:
        self._keep = tempfile.TemporaryDirectory(prefix="alphamesh-bench-")
        folder = Path(self._keep.name)
        synthetic_universe.write(folder, instruments=instruments, days=days, seed=7)
        (folder / "topology.yaml").write_text(topology.format(folder=folder))
        self.run = folder / "run"
        self._alphamesh("up", "--detach", "--topology", str(folder / "topology.yaml"))
        atexit.register(self._stop)

    def _alphamesh(self, *arguments: str) -> None:
        command = [str(ALPHAMESH), *arguments, "--data-dir", str(self.run)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()}")

    def _stop(self) -> None:
        self._alphamesh("down")
        self._keep.cleanup()
