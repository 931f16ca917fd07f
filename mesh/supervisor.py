"""Starts, watches, restarts and stops the processes of one run.

All services are started at once when the event log is ready; each waits by itself, before it is built,
for those that it calls (kit/server.py), so that their imports run in parallel. Ready means that
grpc.health.v1 says SERVING on the service's socket. A service that ends is restarted with growing
pauses; one that never got ready, that says its configuration is wrong, or that keeps ending stops all. Triton is no
part of that: once it has been up, it is started again for ever, and who needs it goes on without.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from python_services.kit import health
from python_services.kit.snapshots import folder_of

from . import logs, nats, postgres, triton_section
from .cli import ONE_THREAD
from .edge import NAME as EDGE
from .errors import MeshError
from .instances import Instance, at_start
from .nats import NatsServer, NatsServers
from .postgres import PostgresServer
from .process import Nursery, Process
from .rundir import RunDir
from .sidecars import OUTSIDE, SUFFIX, Sidecar, Sidecars
from .topology import ROOT, Topology
from .triton import TritonServer

MISCONFIGURED = 78  # sysexits.h EX_CONFIG: starting it again cannot help
TAIL_LINES = 12
NURSERY = "nursery"
_RENEWAL_CHECK_S = 60.0


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
    serves: str  # what others call it by
    calls: frozenset[str] = frozenset()
    instance: Instance | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    vital: bool = True  # the run ends when this cannot be kept
    watch: Callable[[], Awaitable[str]] | None = None  # returns why it is of no use any more
    status: Status = field(default_factory=Status)
    process: Process | None = None
    up: asyncio.Event = field(default_factory=asyncio.Event)
    failed: asyncio.Future[None] | None = None  # set while somebody waits for a new replica: the failure is theirs
    leaving: bool = False  # no new calls, and no restart
    keeper: asyncio.Task[None] | None = None


class Supervisor:
    """The processes of `topology` in `run`, which the caller has created and locked."""

    def __init__(self, run: RunDir, topology: Topology) -> None:
        self._run = run
        self._topology = topology
        self._rules = topology.supervision
        self._nats = NatsServers(run, topology)
        self._postgres = PostgresServer(run) if topology.journals.kind == postgres.NAME else None
        self._triton = TritonServer(run, topology.triton) if topology.triton and topology.triton.enabled else None
        self._journals = run.state().get("journals", "")
        self._state = "STARTING"
        self._since = _now()
        self._startup_ms: dict[str, float] = {}
        self._certificates = ""
        self._stopping = asyncio.Event()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._nursery = Nursery(self._rules.preload, run.log(NURSERY), self._environment())
        self._units = {node.name: self._program_unit(node) for node in self._nats.nodes}
        self.sidecars = Sidecars(run, topology) if topology.mesh.sidecars else None
        for service in topology.processes:
            for instance in at_start(service, sidecars=topology.mesh.sidecars):
                self._units[instance.name] = self._service_unit(instance)
        if self._postgres is not None:
            self._units[postgres.NAME] = self._postgres_unit(self._postgres)
        if self._triton is not None:
            self._units[triton_section.NAME] = self._triton_unit(self._triton)
        for sidecar in self.sidecars.nodes if self.sidecars else ():
            self._units[sidecar.name] = self._sidecar_unit(sidecar)
        self._keeping: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Returns when everything serves. Raises SupervisorError; the caller stops what has started."""
        begun = time.perf_counter()
        self._check_journals()
        self.save()
        parts = (self._event_log(), self._own_postgres(), self._mesh(), self._preload(), self._models())
        await self._or_failure(asyncio.gather(*parts))
        self._journals = self._topology.journals.kind
        for client in self._topology.clients:
            if client.reads:
                self._run.write_reader(client.name, self._nats.url_of(client.name))
        for unit in list(self._units.values()):
            if unit.keeper is None:
                self._begin(unit)
        await self._or_failure(asyncio.gather(*(unit.up.wait() for unit in self._units.values())))
        self._startup_ms |= {name: unit.status.startup_ms or 0.0 for name, unit in self._units.items()}
        self._startup_ms["total"] = _milliseconds(begun)
        self._state = "RUNNING"
        if self.sidecars is not None:
            self._keeping.append(asyncio.create_task(self._renew(self.sidecars), name="certificates"))
        self.save()

    async def watch(self) -> None:
        """Never returns; raises SupervisorError when the run cannot go on."""
        await asyncio.shield(self._failure)

    async def stop(self) -> None:
        """Stops callers before callees, the servers last; whoever does not drain in time is killed."""
        self._stopping.set()
        self._state = "STOPPING"
        with contextlib.suppress(MeshError):  # a full disk must not keep processes alive
            self.save()
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        left = list(self._units.values())
        while left:
            wave = [unit for unit in left if not any(unit.serves in other.calls for other in left)]
            await asyncio.gather(*(self._stop(unit) for unit in wave))
            left = [unit for unit in left if unit not in wave]
        await self._nursery.stop()
        if self._triton is not None:
            self._triton.clean()
        if self._failure.done():
            self._failure.exception()  # seen
        self._state = "STOPPED"
        self._run.remove_sockets()
        with contextlib.suppress(MeshError):
            self.save()

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

    def replicas(self, service: str) -> dict[str, tuple[Instance, Status]]:
        """The processes of a service, by name."""
        found = [unit for unit in self._units.values() if unit.instance and unit.serves == service]
        return {unit.name: (unit.instance, unit.status) for unit in found if unit.instance}

    async def launch(self, instance: Instance) -> None:
        """Starts a replica, and returns when it serves and gets calls. Raises MeshError; nothing of it is left then."""
        assert self.sidecars is not None
        sidecar = await asyncio.to_thread(self.sidecars.add, instance)
        units = [self._sidecar_unit(sidecar), self._service_unit(instance)]
        try:
            for unit in units:
                self._units[unit.name] = unit
                unit.failed = asyncio.get_running_loop().create_future()
                self._begin(unit)
                await self._up_or_failed(unit)
            with contextlib.suppress(TimeoutError):  # a caller's sidecar that is stuck is no fault of the replica
                await asyncio.wait_for(self.sidecars.found(instance), self._rules.drain_s)
        except BaseException:
            await self.retire(instance)
            raise
        for unit in units:
            unit.failed = None

    async def retire(self, instance: Instance) -> None:
        """Takes a replica out of the endpoints, waits until it has answered its calls, and stops it."""
        assert self.sidecars is not None
        unit = self._units.get(instance.name)
        sidecar = self._units[f"{instance.name}{SUFFIX}"]
        for one in filter(None, (unit, sidecar)):
            one.leaving = True
        if unit is not None and unit.status.state == "SERVING":
            self._set(unit, "DRAINING")
            with contextlib.suppress(TimeoutError):  # longer calls end as the service stops: it says so to each
                await asyncio.wait_for(self.sidecars.released(instance), self._rules.drain_s)
        for one in filter(None, (unit, sidecar)):
            await self._stop(one)
            del self._units[one.name]
        self.sidecars.remove(instance)
        self.save()

    async def _up_or_failed(self, unit: _Unit) -> None:
        assert unit.failed is not None
        up = asyncio.create_task(unit.up.wait())
        try:
            await asyncio.wait((up, unit.failed, self._failure), return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
        if unit.failed.done():
            unit.failed.result()
        if self._failure.done() or self._stopping.is_set():
            raise SupervisorError("the system is stopping; start it again with `alphamesh up`")

    async def _renew(self, sidecars: Sidecars) -> None:
        """New certificates when half of their lifetime has passed, by the wall clock: a machine may have slept."""
        lifetime_s = self._topology.mesh.certificate_hours * 3600
        renewed = time.time()
        while True:
            await asyncio.sleep(min(lifetime_s / 20, _RENEWAL_CHECK_S))
            if time.time() - renewed >= lifetime_s / 2:
                try:
                    await asyncio.to_thread(sidecars.certify)
                except OSError as error:  # a full disk: there is the other half of the lifetime to make room
                    self._certificates = f"not renewed: {error.filename}: {error.strerror}; make room there"
                else:
                    renewed, self._certificates = time.time(), f"renewed {_now()}"
                self.save()

    async def _event_log(self) -> None:
        units = [self._units[node.name] for node in self._nats.nodes]
        for unit in units:
            self._begin(unit)
        await asyncio.gather(*(unit.up.wait() for unit in units))
        await self._nats.declare()

    async def _mesh(self) -> None:
        """Before the services: they find their callees through it."""
        if self.sidecars is None:
            return
        await asyncio.to_thread(self.sidecars.write)
        units = [self._units[node.name] for node in self.sidecars.nodes]
        for unit in units:
            self._begin(unit)
        await asyncio.gather(*(unit.up.wait() for unit in units))

    async def _own_postgres(self) -> None:
        if self._postgres is not None:
            await self._postgres.prepare(self._environment())
            self._begin(self._units[postgres.NAME])
            await self._units[postgres.NAME].up.wait()

    async def _models(self) -> None:
        """Begun first, for it takes longest; awaited with everything else."""
        if self._triton is not None:
            await asyncio.to_thread(self._triton.prepare)
            self._begin(self._units[triton_section.NAME])

    def _check_journals(self) -> None:
        wanted = self._topology.journals.kind
        if self._journals not in ("", wanted):
            raise SupervisorError(
                f"the journals of {self._run.path} are not {wanted} but {self._journals}, where they must stay; say so "
                "with --journal, or choose another --data-dir"
            )

    def _journal_address(self) -> str:
        if self._postgres is not None:
            return self._postgres.url
        if self._topology.journals.kind == nats.NAME:
            return f"{self._nats.url}&replicas={self._topology.event_log.replicas}"
        return self._topology.journals.address

    async def _preload(self) -> None:
        if self._rules.preload:
            begun = time.perf_counter()
            await self._nursery.start()
            self._startup_ms[NURSERY] = _milliseconds(begun)

    def _service_unit(self, instance: Instance) -> _Unit:
        name, module = instance.name, instance.group.module

        async def start() -> Process:
            socket, log = self._run.socket(name), self._run.log(name)
            socket.unlink(missing_ok=True)
            tracing = self._topology.tracing.settings(self._run.socket)
            sidecar = self.sidecars is not None
            url = self._nats.url_of(instance.service.name)
            self._run.write_config(
                instance,
                url,
                self._journal_address(),
                tracing,
                sidecar=sidecar,
                model_server=self._model_server(instance),
                snapshots=folder_of(self._run.path) if self._topology.shares_snapshots(instance.service) else None,
            )
            arguments = ["--run-dir", str(self._run.path), "--replica", name]
            if self._rules.preload:
                return await self._nursery.fork(name, module, arguments, log)
            return await Process.start(name, [sys.executable, "-m", module, *arguments], log, self._environment())

        # Whoever collects spans is stopped last: those of all others are still on their way to it.
        collector = self._topology.tracing.collector
        callees = () if instance.service.name == collector else (*instance.callees, collector)
        servers = (*(node.name for node in self._nats.nodes), postgres.NAME, f"{name}{SUFFIX}")
        calls = frozenset((*callees, *servers))
        return _Unit(name, start, lambda: self._service_ready(name), instance.service.name, calls, instance)

    def _sidecar_unit(self, sidecar: Sidecar) -> _Unit:
        unit = self._program_unit(sidecar)
        if sidecar.name in (OUTSIDE, f"{EDGE}{SUFFIX}"):
            unit.calls = frozenset(service.name for service in self._topology.services)
        return unit

    def _program_unit(self, node: NatsServer | Sidecar) -> _Unit:
        async def start() -> Process:
            return await Process.start(node.name, node.command(), self._run.log(node.name), self._environment())

        async def ready() -> str:
            await node.ready()
            return node.version

        return _Unit(node.name, start, ready, serves=node.name)

    def _postgres_unit(self, server: PostgresServer) -> _Unit:
        async def start() -> Process:
            log = self._run.log(server.name)
            return await Process.start(server.name, server.command(), log, self._environment(), user=server.user)

        async def ready() -> str:
            await server.ready()
            return server.version

        # SIGTERM would wait for whoever is still connected.
        return _Unit(server.name, start, ready, serves=server.name, stop_signal=signal.SIGINT)

    def _triton_unit(self, server: TritonServer) -> _Unit:
        async def start() -> Process:
            environment = server.environment(self._environment())
            return await Process.start(server.name, server.command(), self._run.log(server.name), environment)

        async def ready() -> str:
            await server.ready()
            return server.version

        calls = frozenset({f"{server.name}{SUFFIX}"})
        return _Unit(server.name, start, ready, server.name, calls, vital=False, watch=server.watch)

    def _model_server(self, instance: Instance) -> dict[str, str] | None:
        """For who may load models."""
        methods = [call.methods for call in instance.service.calls if call.service == triton_section.NAME]
        if self._triton is None or not any(triton_section.administers(each) for each in methods):
            return None
        return self._triton.administration

    async def _service_ready(self, name: str) -> str:
        await health.wait_serving(self._run.socket(name))
        for record in reversed(logs.tail(self._run.log(name), TAIL_LINES)):
            if "version" in record:
                return str(record["version"])
        return ""

    def _begin(self, unit: _Unit) -> None:
        unit.keeper = asyncio.create_task(self._keep_up(unit), name=f"keep-{unit.name}")

    async def _keep_up(self, unit: _Unit) -> None:
        try:
            await self._start_again_and_again(unit)
        except Exception as error:  # whatever it is, nobody else watches this process
            unit.status.state = "FAILED"
            if isinstance(error, OSError):
                where = error.filename or self._run.path
                error = SupervisorError(f"{unit.name}: {where}: {error.strerror}; make room there, or give rights")
            elif not isinstance(error, MeshError):
                error = SupervisorError(f"{unit.name} cannot be kept: {error!r}; please report this")
            self._publish(unit)
            if unit.failed is not None:
                if not unit.failed.done():
                    unit.failed.set_exception(error)
            elif self._has_others(unit):
                self.save()
            elif not self._failure.done():
                self._failure.set_exception(error)

    async def _start_again_and_again(self, unit: _Unit) -> None:
        failures = 0
        while not self._stopping.is_set():
            begun = time.perf_counter()
            served = await self._started(unit)
            if served:
                unit.status.startup_ms = _milliseconds(begun)
                self._set(unit, "SERVING")
                unit.up.set()
            code = await self._ended(unit)
            unit.status.exit_code = code
            if self._stopping.is_set() or unit.leaving:
                return
            if served and _milliseconds(begun) >= self._rules.healthy_s * 1e3:
                failures = 0
            failures += 1
            hopeless = unit.vital and (code == MISCONFIGURED or failures > self._rules.maximum_restarts)
            if hopeless or not unit.up.is_set():
                raise self._gave_up(unit, code, failures)
            self._set(unit, "BACKING_OFF", pid=None)
            await asyncio.sleep(min(self._rules.backoff_s * 2 ** min(failures - 1, 30), self._rules.backoff_limit_s))
            unit.status.restarts += 1

    async def _started(self, unit: _Unit) -> bool:
        """Whether it got ready; False when it ended first."""
        try:
            unit.process = await unit.start()
            self._set(unit, "STARTING", pid=unit.process.pid)
            return await self._until_ready(unit, unit.process)
        except (MeshError, OSError) as error:
            if unit.vital or not unit.up.is_set():
                raise
            self._run.note(unit.name, str(error))
            if unit.process is not None:
                unit.process.kill()
            return False

    async def _ended(self, unit: _Unit) -> int:
        """How the process ended: by itself, or because it was of no use any more."""
        assert unit.process is not None
        if unit.watch is None or unit.status.state != "SERVING":
            return await unit.process.wait()
        ended, useless = asyncio.ensure_future(unit.process.wait()), asyncio.ensure_future(unit.watch())
        try:
            await asyncio.wait((ended, useless), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                why = useless.exception() or useless.result()
                self._run.note(unit.name, f"is started again: {why}")
                unit.process.kill()
            return await ended
        finally:
            useless.cancel()
            await asyncio.gather(useless, return_exceptions=True)

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

    def _has_others(self, unit: _Unit) -> bool:
        """Whether another replica serves, so that the run can go on without this one."""
        others = [other for other in self._units.values() if other.serves == unit.serves and other is not unit]
        return self._state == "RUNNING" and any(other.status.state == "SERVING" for other in others)

    def _publish(self, unit: _Unit) -> None:
        """Calls go to the replicas that are ready."""
        if self.sidecars is None or unit.instance is None or unit.instance.service.replicas is None:
            return
        group = unit.instance.group
        alike = [other for other in self._units.values() if other.instance and other.instance.group.name == group.name]
        ready = [other.name for other in alike if other.status.state == "SERVING" and not other.leaving]
        self.sidecars.publish(group, ready)

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
            await unit.process.stop(self._rules.drain_s, unit.stop_signal)
        if unit.keeper is not None:
            unit.keeper.cancel()
            await asyncio.gather(unit.keeper, return_exceptions=True)
        if unit.process is not None and unit.process.running:  # started while it was being stopped
            await unit.process.stop(self._rules.drain_s, unit.stop_signal)
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
            self._publish(unit)
        if not self._stopping.is_set():
            self.save()

    def save(self) -> None:
        """Writes supervisor.json, which `alphamesh status` reads. Raises RunDirError."""
        self._run.write_state(
            {
                "pid": os.getpid(),
                "state": self._state,
                "since": self._since,
                "topology": str(self._topology.path),
                "journals": self._journals,
                "edge": self.sidecars.edge if self.sidecars else None,
                "startup_ms": self._startup_ms,
                "certificates": self._certificates,
                "processes": {name: asdict(unit.status) for name, unit in self._units.items()},
                "services": self._services(),
            }
        )

    def _services(self) -> dict[str, Any]:
        """Those that can have replicas: each version's share of the calls, in percent, and its replicas."""
        found: dict[str, Any] = {}
        for service in self._topology.services if self.sidecars else ():
            if service.replicas is None:
                continue
            assert self.sidecars is not None
            weights, replicas = self.sidecars.weights(service.name), self.replicas(service.name)
            found[service.name] = {
                name: {"weight": weight, "replicas": [i.name for i, _ in replicas.values() if i.group.name == name]}
                for name, weight in weights.items()
            }
        return found

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
