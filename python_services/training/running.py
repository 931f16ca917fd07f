"""The worker as a process of its own: started, listened to, stopped.

It has no way to the mesh and no secret: an environment of its own, its own folder, a lower priority, one thread. It
dies with the service (see worker.py), so a restarted service never has two at work on one job.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from .errors import TrainingError

LOG = "worker.log"
SPEC = "job.json"
PASSED_ON = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "RAY_ADDRESS")
STOP_S = 2.0
_LINE_BYTES = 1 << 20
_SHOWN_LINES = 5


class Worker:
    """One run of ``python -m python_services.training.worker``."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self._process = process
        self._folder = folder

    @classmethod
    async def start(cls, folder: Path, settings: Mapping[str, Any], niceness: int) -> Worker:
        """Writes job.json and starts a worker on it."""
        specification = folder / SPEC
        specification.write_bytes(orjson.dumps(settings, option=orjson.OPT_INDENT_2))
        with (folder / LOG).open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "python_services.training.worker", str(specification), "--nice", str(niceness),
                "--confine",
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log, limit=_LINE_BYTES,
                env=environment(folder), start_new_session=True,
            )  # fmt: skip
        return cls(process, folder)

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """What the worker says, until it ends. Raises TrainingError (WORKER_LOST) when it ends without an outcome."""
        assert self._process.stdout is not None
        ended = False
        try:
            async for line in self._process.stdout:
                message: dict[str, Any] = orjson.loads(line)
                ended = ended or "result" in message or "failure" in message
                yield message
        except ValueError as error:  # no JSON, or a line without an end
            raise TrainingError("WORKER_UNREADABLE", f"its process said what cannot be read: {error}") from error
        code = await self._process.wait()
        if not ended:
            how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
            raise TrainingError("WORKER_LOST", f"its process {how}; its log ends with: {self._last_lines()}")

    async def stop(self) -> None:
        """Ends the worker and what it started: asked first, then killed."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._process.returncode is not None:
                break
            self._signal(number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), STOP_S)
        self._signal(signal.SIGKILL)  # what it started, if it left something behind

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _last_lines(self) -> str:
        lines = (self._folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
        return " | ".join(lines[-_SHOWN_LINES:]) or "nothing"


def environment(folder: Path) -> dict[str, str]:
    """Nothing of the service's own environment but how programs are found."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {**passed_on, **threads, "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
