"""Talk to a peer that runs in an environment of its own: arrays by file, one JSON line a request."""

from __future__ import annotations

import atexit
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parent.parent / ".bench"

Arrays = dict[str, NDArray[Any]]


class Peer:
    """A process of `script` under the environment `name`; started at the first request."""

    def __init__(self, name: str, script: str, install: str) -> None:
        self._python = ENVIRONMENTS / name / "bin" / "python"
        self._script = HERE / script
        self._install = install
        self._process: subprocess.Popen[str] | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="alphamesh-bench-"))
        self._sent: dict[str, Arrays] = {}

    def run(self, task: str, arrays: Arrays, **options: Any) -> tuple[float, Arrays, str]:
        """Run `task` once; return (seconds, its arrays, the name of the peer that answered).

        Arrays are written once for each task name: the same task must mean the same data.
        """
        if self._process is None:
            self._start()
        if task not in self._sent:
            np.savez(self._folder / f"{task}.npz", allow_pickle=False, **arrays)
            self._sent[task] = arrays
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        request = {"task": task, "data": str(self._folder / f"{task}.npz"), "out": str(self._folder / "out.npz")}
        process.stdin.write(json.dumps(request | options) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._script.name} died at {task}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{task}: {answer['error']}")
        with np.load(self._folder / "out.npz") as found:
            return float(answer["seconds"]), dict(found), str(answer["peer"])

    def _start(self) -> None:
        if not self._python.exists():
            raise RuntimeError(f"no {self._python}: {self._install}")
        self._process = subprocess.Popen(
            [str(self._python), str(self._script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        atexit.register(self._process.kill)
