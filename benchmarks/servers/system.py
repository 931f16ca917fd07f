"""A system of the project's own, up until this process ends: what is measured through real processes."""

from __future__ import annotations

import atexit
import tempfile
from pathlib import Path

from benchmarks import synthetic_universe
from benchmarks.sessions import alphamesh


class System:
    """The synthetic universe, and a topology over it; {folder} in its text is where the universe lies."""

    def __init__(self, topology: str, *, instruments: int, days: int) -> None:
        self._keep = tempfile.TemporaryDirectory(prefix="alphamesh-bench-")
        folder = Path(self._keep.name)
        synthetic_universe.write(folder, instruments=instruments, days=days, seed=7)
        (folder / "topology.yaml").write_text(topology.format(folder=folder))
        self.run = folder / "run"
        alphamesh("up", "--detach", "--topology", str(folder / "topology.yaml"), "--data-dir", str(self.run))
        atexit.register(self._stop)

    def _stop(self) -> None:
        alphamesh("down", "--data-dir", str(self.run))
        self._keep.cleanup()
