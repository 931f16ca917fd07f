"""Starts, watches, restarts and stops the processes of one run.

All services are started at once when the event log is ready; each waits by itself, before it is built,
for those that it calls (kit/server.py), so that their imports run in parallel. Ready means that
grpc.health.v1 says SERVING on the service's socket. A service that ends is restarted with growing
pauses; one that never got ready, that says its configuration is wrong, or that keeps ending stops all.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from python_services.kit import health

from . import logs
from .cli import ONE_THREAD
from .errors import MeshError
from .nats import NatsServer, NatsServers
from .process import Nursery, Process
from .rundir import RunDir
from .sidecars import OUTSIDE, SUFFIX, Sidecar, Sidecars
from .topology import ROOT, Topology

MISCONFIGURED = 78  # sysexits.h EX_CONFIG: starting it again cannot help
TAIL_LINES = 12
NURSERY = "nursery"


class SupervisorError(MeshError):
    """A process that the run cannot go on without."""


@dataclass
class Status:
    """What `alphamesh status` shows of one process."""

    state: str = "WAITING"
    pid: int | None = None
    version: str = ""
    since: str = ""
    restarts: int = 0
    startup_ms: float | None = None
    exit_code: int | None = None


@dataclass
class _Unit:
    name: str
    start: Callable[[], Awaitable[Process]]
    ready: Callable[[], Awaitable[str]]
    callers: list[str] = field(default_factory=list)
    status: Status = field(default_factory=Status)
    process: Process | None = None
    up: asyncio.Event = field(default_factory=asyncio.Event)
    keeper: asyncio.Task[None] | None = None


class Supervisor:
    """The processes of `topology` in `run`, which the caller has created and locked."""

    def __init__(self, run: RunDir, topology: Topology) -> None:
        self._run = run
        self._topology = topology
        self._rules = topology.supervision
        self._nats = NatsServers(run, topology)
        self._state = "STARTING"
        self._since = _now()
        self._startup_ms: dict[str, float] = {}
        self._stopping = asyncio.Event()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._nursery = Nursery(self._rules.preload, run.log(NURSERY), self._environment())
        self._units = {node.name: self._program_unit(node) for node in self._nats.nodes}
        for service in topology.services:
            self._units[service.name] = self._service_unit(service.name, service.module)
        for service in topology.services:
            for node in self._nats.nodes:
                self._units[node.name].callers.append(service.name)
            for callee in service.callees:
                self._units[callee].callers.append(service.name)
        self._sidecars = Sidecars(run, topology) if topology.mesh.sidecars else None
        for sidecar in self._sidecars.nodes if self._sidecars else ():
            self._units[sidecar.name] = self._program_unit(sidecar)
            if sidecar.name == OUTSIDE:
                for service in topology.services:
                    self._units[service.name].callers.append(OUTSIDE)
            else:
                self._units[sidecar.name].callers.append(sidecar.name.removesuffix(SUFFIX))

    async def start(self) -> None:
        """Returns when everything serves. Raises SupervisorError; the caller stops what has started."""
        begun = time.perf_counter()
        self._save()
        await self._or_failure(asyncio.gather(self._event_log(), self._preload(), self._mesh()))
        for client in self._topology.clients:
            if client.reads:
                self._run.write_reader(client.name, self._nats.url_of(client.name))
        sidecar = self._sidecars is not None
        for service in self._topology.services:
            self._run.write_config(
                service, self._nats.url_of(service.name), self._topology.journals.address, sidecar=sidecar
            )
            self._keep(self._units[service.name])
        await self._or_failure(asyncio.gather(*(unit.up.wait() for unit in self._units.values())))
        self._startup_ms |= {name: unit.status.startup_ms or 0.0 for name, unit in self._units.items()}
        self._startup_ms["total"] = _milliseconds(begun)
        self._state = "RUNNING"
        self._save()

    async def watch(self) -> None:
        """Never returns; raises SupervisorError when the run cannot go on."""
        await asyncio.shield(self._failure)

    async def stop(self) -> None:
        """Stops callers before callees, the event log last; whoever does not drain in time is killed."""
        self._stopping.set()
        self._state = "STOPPING"
        with contextlib.suppress(MeshError):  # a full disk must not keep processes alive
            self._save()
        stopped: set[str] = set()
        while left := [unit for unit in self._units.values() if unit.name not in stopped]:
            wave = [unit for unit in left if stopped.issuperset(unit.callers)]
            await asyncio.gather(*(self._stop(unit) for unit in wave))
            stopped.update(unit.name for unit in wave)
        await self._nursery.stop()
        if self._failure.done():
            self._failure.exception()  # seen
        self._state = "STOPPED"
        self._run.remove_sockets()
        with contextlib.suppress(MeshError):
            self._save()

    def kill(self) -> None:
        """Ends every process at once."""
        self._stopping.set()
        for unit in self._units.values():
            if unit.process is not None:
                unit.process.kill()

    @property
    def startup_ms(self) -> dict[str, float]:
        """Time from start to ready: each process, and "total"."""
        return dict(self._startup_ms)

    @property
    def statuses(self) -> dict[str, Status]:
        """Each process by name."""
        return {name: unit.status for name, unit in self._units.items()}

    async def _event_log(self) -> None:
        units = [self._units[node.name] for node in self._nats.nodes]
        for unit in units:
            self._keep(unit)
        await asyncio.gather(*(unit.up.wait() for unit in units))
        await self._nats.declare()

    async def _mesh(self) -> None:
        """Before the services: they find their callees through it."""
        if self._sidecars is None:
            return
        await asyncio.to_thread(self._sidecars.write)
        units = [self._units[node.name] for node in self._sidecars.nodes]
        for unit in units:
            self._keep(unit)
        await asyncio.gather(*(unit.up.wait() for unit in units))

    async def _preload(self) -> None:
        if self._rules.preload:
            begun = time.perf_counter()
            await self._nursery.start()
            self._startup_ms[NURSERY] = _milliseconds(begun)

    def _service_unit(self, name: str, module: str) -> _Unit:
        async def start() -> Process:
            socket, log = self._run.socket(name), self._run.log(name)
            socket.unlink(missing_ok=True)
            arguments = ["--run-dir", str(self._run.path)]
            if self._rules.preload:
                return await self._nursery.fork(name, module, arguments, log)
            return await Process.start(name, [sys.executable, "-m", module, *arguments], log, self._environment())

        return _Unit(name, start, lambda: self._service_ready(name))

    def _program_unit(self, node: NatsServer | Sidecar) -> _Unit:
        async def start() -> Process:
            return await Process.start(node.name, node.command(), self._run.log(node.name), self._environment())

        async def ready() -> str:
            await node.ready()
            return node.version

        return _Unit(node.name, start, ready)

    async def _service_ready(self, name: str) -> str:
        await health.wait_serving(self._run.socket(name))
        for record in reversed(logs.tail(self._run.log(name), TAIL_LINES)):
            if "version" in record:
                return str(record["version"])
        return ""

    def _keep(self, unit: _Unit) -> None:
        unit.keeper = asyncio.create_task(self._keep_up(unit), name=f"keep-{unit.name}")

    async def _keep_up(self, unit: _Unit) -> None:
        try:
            await self._start_again_and_again(unit)
        except (MeshError, OSError) as error:
            unit.status.state = "FAILED"
            if isinstance(error, OSError):
                where = error.filename or self._run.path
                error = SupervisorError(f"{unit.name}: {where}: {error.strerror}; make room there, or give rights")
            if not self._failure.done():
                self._failure.set_exception(error)

    async def _start_again_and_again(self, unit: _Unit) -> None:
        failures = 0
        while not self._stopping.is_set():
            begun = time.perf_counter()
            unit.process = await unit.start()
            self._set(unit, "STARTING", pid=unit.process.pid)
            served = await self._until_ready(unit, unit.process)
            if served:
                unit.status.startup_ms = _milliseconds(begun)
                self._set(unit, "SERVING")
                unit.up.set()
            code = await unit.process.wait()
            unit.status.exit_code = code
            if self._stopping.is_set():
                return
            if served and _milliseconds(begun) >= self._rules.healthy_s * 1e3:
                failures = 0
            failures += 1
            if code == MISCONFIGURED or not unit.up.is_set() or failures > self._rules.maximum_restarts:
                raise self._gave_up(unit, code, failures)
            self._set(unit, "BACKING_OFF", pid=None)
            await asyncio.sleep(min(self._rules.backoff_s * 2 ** (failures - 1), self._rules.backoff_limit_s))
            unit.status.restarts += 1

    async def _until_ready(self, unit: _Unit, process: Process) -> bool:
        """False when it ended first."""
        ready = asyncio.ensure_future(unit.ready())
        ended = asyncio.create_task(process.wait())
        try:
            done, _ = await asyncio.wait(
                (ready, ended), timeout=self._rules.start_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                process.kill()
                await process.wait()
                raise SupervisorError(
                    f"{unit.name} was not ready within {self._rules.start_timeout_s:g} s; raise "
                    f"supervision.start_timeout_s in {self._topology.path}, or see its log\n{self._tail(unit)}"
                )
            if ready in done:
                unit.status.version = ready.result()
            return ready in done
        finally:
            for task in (ready, ended):
                task.cancel()
            await asyncio.gather(ready, ended, return_exceptions=True)

    def _gave_up(self, unit: _Unit, code: int, failures: int) -> SupervisorError:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        if code == MISCONFIGURED:
            what = f"{unit.name} cannot start; correct what its log says"
        elif not unit.up.is_set():
            what = f"{unit.name} {how} before it was ready; its log says why"
        else:
            what = f"{unit.name} {how}, {failures} times in a row; its log says why"
        return SupervisorError(f"{what}\n{self._tail(unit)}")

    def _tail(self, unit: _Unit) -> str:
        return logs.excerpt(self._run.log(unit.name), TAIL_LINES)

    async def _stop(self, unit: _Unit) -> None:
        if unit.process is not None and unit.process.running:
            self._set(unit, "STOPPING")
            await unit.process.stop(self._rules.drain_s)
        if unit.keeper is not None:
            unit.keeper.cancel()
            await asyncio.gather(unit.keeper, return_exceptions=True)
        if unit.process is not None and unit.process.running:  # started while it was being stopped
            await unit.process.stop(self._rules.drain_s)
        if unit.status.state != "FAILED":
            self._set(unit, "STOPPED", pid=None)

    async def _or_failure(self, wanted: Coroutine[Any, Any, Any] | asyncio.Future[Any]) -> None:
        task = asyncio.ensure_future(wanted)
        try:
            await asyncio.wait((task, self._failure), return_when=asyncio.FIRST_COMPLETED)
            if self._failure.done():
                self._failure.result()
            task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _set(self, unit: _Unit, state: str, **changes: Any) -> None:
        unit.status.state, unit.status.since = state, _now()
        for key, value in changes.items():
            setattr(unit.status, key, value)
        if not self._stopping.is_set():
            self._save()

    def _save(self) -> None:
        self._run.write_state(
            {
                "pid": os.getpid(),
                "state": self._state,
                "since": self._since,
                "topology": str(self._topology.path),
                "startup_ms": self._startup_ms,
                "processes": {name: asdict(unit.status) for name, unit in self._units.items()},
            }
        )

    def _environment(self) -> dict[str, str]:
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        # One thread per process: eight processes share the machine, and sums come out the same everywhere.
        single = {name: os.environ.get(name, "1") for name in ONE_THREAD}
        return {
            **os.environ,
            **single,
            "JE_ARROW_MALLOC_CONF": "background_thread:false",  # pyarrow's thread must not be there when one forks
            "PYTHONPATH": os.pathsep.join(paths),
        }


def _milliseconds(begun: float) -> float:
    return round((time.perf_counter() - begun) * 1e3, 1)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
