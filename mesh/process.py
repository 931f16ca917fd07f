"""One child process: its own session, its log as JSON lines, and an end with its parent in every case."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence
from pathlib import Path

from . import launch, logs

_STDERR_LINE_LIMIT = 1024 * 1024


class Process:
    """A running child. Standard output goes to its log file as it is, standard error line by line as JSON."""

    def __init__(self, name: str, child: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.pid = child.pid
        self._child = child
        self._stderr = asyncio.create_task(self._capture(log), name=f"stderr-{name}")

    @classmethod
    async def start(cls, name: str, command: Sequence[str], log: Path, environment: dict[str, str]) -> Process:
        """Starts `command`; shielded, so that a cancelled caller leaves no process that nobody knows."""
        started: asyncio.Task[Process] = asyncio.create_task(cls._start(name, command, log, environment))
        try:
            return await asyncio.shield(started)
        except asyncio.CancelledError:
            (await started).kill()
            raise

    @classmethod
    async def _start(cls, name: str, command: Sequence[str], log: Path, environment: dict[str, str]) -> Process:
        launcher = (sys.executable, "-I", "-S", launch.__file__, str(os.getpid()))
        with log.open("ab") as output:
            child = await asyncio.create_subprocess_exec(
                *launcher,
                *command,
                stdin=DEVNULL,
                stdout=output,
                stderr=PIPE,
                env=environment,
                start_new_session=True,  # Ctrl-C on the terminal reaches the supervisor only
                limit=_STDERR_LINE_LIMIT,
            )
        return cls(name, child, log)

    async def wait(self) -> int:
        """Exit status; negative is the signal that ended it. The log is complete then."""
        code = await self._child.wait()
        await asyncio.shield(self._stderr)
        return code

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._child.returncode is None

    async def stop(self, grace_s: float) -> bool:
        """SIGTERM, then SIGKILL after `grace_s`. True when it went by itself."""
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.wait(), grace_s)
        except TimeoutError:
            self.kill()
            await self.wait()
            return False
        return True

    def kill(self) -> None:
        """SIGKILL to its whole process group."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def _capture(self, log: Path) -> None:
        assert self._child.stderr is not None
        with log.open("ab", buffering=0) as file:
            while True:
                try:
                    line = await self._child.stderr.readline()
                except ValueError:  # a line beyond the limit: the rest of it follows as further lines
                    continue
                if not line:
                    return
                if text := line.decode(errors="replace").rstrip():
                    file.write(logs.wrap(self.name, text))
