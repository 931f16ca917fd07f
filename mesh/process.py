"""One child process: its own session, its log as JSON lines, and an end with its parent in every case."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import pwd
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

import orjson

from . import launch, logs
from .errors import MeshError
from .nursery import MESSAGE_BYTES

_STDERR_LINE_LIMIT = 1024 * 1024
_READ_BYTES = 64 * 1024
_LOG_LINES = 12


class Process:
    """A running child. Standard output goes to its log file as it is, standard error line by line as JSON."""

    def __init__(self, name: str, pid: int, ended: Awaitable[int], stderr: asyncio.StreamReader, log: Path) -> None:
        self.name = name
        self.pid = pid
        self._ended = asyncio.ensure_future(ended)
        self._swept = False
        self._capture = asyncio.create_task(_capture(name, stderr, log), name=f"stderr-{name}")

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: dict[str, str],
        inherited: tuple[int, ...] = (),
        user: pwd.struct_passwd | None = None,
    ) -> Process:
        """Executes `command`, as `user` if one is given; shielded, so that a cancelled caller leaves no process that
        nobody knows."""
        return await _unless_cancelled(cls._start(name, command, log, environment, inherited, user))

    @classmethod
    async def _start(
        cls,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: dict[str, str],
        inherited: tuple[int, ...],
        user: pwd.struct_passwd | None,
    ) -> Process:
        who = f"{user.pw_uid}:{user.pw_gid}" if user is not None else launch.SAME_USER
        launcher = (sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), who)
        reader, writer = _pipe()
        try:
            with log.open("ab") as output:
                child = await asyncio.create_subprocess_exec(
                    *launcher,
                    *command,
                    stdin=DEVNULL,
                    stdout=output,
                    stderr=writer,
                    env=environment,
                    pass_fds=inherited,
                    start_new_session=True,  # Ctrl-C on the terminal reaches the supervisor only
                )
        finally:
            os.close(writer)
        return cls(name, child.pid, child.wait(), reader, log)

    async def wait(self) -> int:
        """Exit status; negative is the signal that ended it. What it had started is ended too, and the log complete."""
        code = await asyncio.shield(self._ended)
        if not self._swept:  # once: its number may be another's later
            self._swept = True
            self._signal_group(signal.SIGKILL)
        await asyncio.shield(self._capture)
        return code

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return not self._ended.done()

    async def stop(self, grace_s: float, number: signal.Signals = signal.SIGTERM) -> bool:
        """SIGTERM, or another signal, then SIGKILL after `grace_s`. True when it went by itself."""
        self._signal(number)
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
            self._signal_group(number)

    def _signal_group(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


class Nursery:
    """Forks services from one process that has imported what they share; see `mesh.nursery`."""

    def __init__(self, preload: Sequence[str], log: Path, environment: dict[str, str]) -> None:
        self._preload = preload
        self._log = log
        self._environment = environment
        self._starting = asyncio.Lock()
        self._process: Process | None = None
        self._channel: socket.socket | None = None
        self._ready: asyncio.Future[None] | None = None
        self._asked: dict[int, asyncio.Future[int]] = {}
        self._ended: dict[int, asyncio.Future[int]] = {}
        self._explaining: asyncio.Task[None] | None = None
        self._tokens = itertools.count(1)

    async def fork(self, name: str, module: str, arguments: Sequence[str], log: Path) -> Process:
        """Runs `module` as ``python -m`` would. Starts the nursery first, also when it has died."""
        return await _unless_cancelled(self._fork(name, module, arguments, log))

    async def _fork(self, name: str, module: str, arguments: Sequence[str], log: Path) -> Process:
        await self.start()
        assert self._channel is not None
        token, loop = next(self._tokens), asyncio.get_running_loop()
        started = self._asked[token] = loop.create_future()
        request = orjson.dumps({"token": token, "module": module, "arguments": list(arguments)})
        reader, writer = _pipe()
        try:
            with log.open("ab") as output:
                socket.send_fds(self._channel, [request], [output.fileno(), writer])
        except OSError as error:
            raise MeshError(f"the nursery does not start {name}: {error.strerror}; see {self._log}") from error
        finally:
            os.close(writer)
        pid = await started
        return Process(name, pid, self._ended[pid], reader, log)

    async def start(self) -> None:
        """Returns when it has imported everything."""
        async with self._starting:
            if self._process is None or not self._process.running:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                ours.setblocking(False)
                loop = asyncio.get_running_loop()
                self._channel, self._ready = ours, loop.create_future()
                command = [sys.executable, "-m", "mesh.nursery", str(theirs.fileno()), *self._preload]
                with theirs:
                    self._process = await Process.start(
                        "nursery", command, self._log, self._environment, (theirs.fileno(),)
                    )
                loop.add_reader(ours, self._receive, ours)
        assert self._ready is not None
        await asyncio.shield(self._ready)

    async def stop(self) -> None:
        """Ends the nursery, and whatever was forked and is still there."""
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
        if self._channel is not None:
            self._lost(self._channel)
        if self._explaining is not None:
            await self._explaining

    def _receive(self, channel: socket.socket) -> None:
        while True:
            try:
                message = channel.recv(MESSAGE_BYTES)
            except BlockingIOError:
                return
            except ConnectionResetError:
                message = b""
            if not message:
                self._lost(channel)
                return
            self._report(orjson.loads(message))

    def _report(self, message: dict[str, Any]) -> None:
        if "ready" in message and self._ready is not None and not self._ready.done():
            self._ready.set_result(None)
        elif "pid" in message:
            self._ended[message["pid"]] = asyncio.get_running_loop().create_future()
            self._asked.pop(message["token"]).set_result(message["pid"])
        elif "ended" in message:
            self._ended.pop(message["ended"]).set_result(message["code"])

    def _lost(self, channel: socket.socket) -> None:
        """It has died, and with it everything that it forked."""
        if channel.fileno() == -1:
            return
        asyncio.get_running_loop().remove_reader(channel)
        channel.close()
        waiting: list[asyncio.Future[Any]] = [*self._asked.values(), *([self._ready] if self._ready else [])]
        self._explaining = asyncio.create_task(self._explain(waiting))
        for ended in self._ended.values():
            ended.set_result(-signal.SIGKILL)
        self._asked.clear()
        self._ended.clear()

    async def _explain(self, waiting: Sequence[asyncio.Future[Any]]) -> None:
        if self._process is not None:
            await self._process.wait()  # its log is complete then
        problem = MeshError(f"the nursery ended; its log says why\n{logs.excerpt(self._log, _LOG_LINES)}")
        for future in waiting:
            if not future.done():
                future.set_exception(problem)
                future.exception()  # whoever waits gets it; nobody has to


async def _unless_cancelled(starting: Awaitable[Process]) -> Process:
    task = asyncio.ensure_future(starting)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        (await task).kill()
        raise


def _pipe() -> tuple[asyncio.StreamReader, int]:
    """A pipe: a reader for here, a descriptor for the child.

    Not `connect_read_pipe`: uvloop closes such a descriptor twice, the second time perhaps somebody else's who was
    given the same number by then.
    """
    read, write = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(read, False)
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader(limit=_STDERR_LINE_LIMIT)

    def take() -> None:
        try:
            content = os.read(read, _READ_BYTES)
        except BlockingIOError:
            return
        if content:
            reader.feed_data(content)
            return
        loop.remove_reader(read)
        os.close(read)
        reader.feed_eof()

    loop.add_reader(read, take)
    return reader, write


async def _capture(name: str, stderr: asyncio.StreamReader, log: Path) -> None:
    with log.open("ab", buffering=0) as file:
        while True:
            try:
                line = await stderr.readline()
            except ValueError:  # a line beyond the limit: the rest of it follows as further lines
                continue
            if not line:
                return
            if text := line.decode(errors="replace").rstrip():
                file.write(logs.wrap(name, text))
