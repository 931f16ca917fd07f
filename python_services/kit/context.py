"""What a service is given when it is built: its configuration, its journal, and the way to the others.

A service module offers one `ServiceDefinition`; `serve` runs it as a process, `LocalSystem` runs all of
them in one process. The service cannot tell which.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast

import grpc

from alphamesh.audit.v1 import state_pb2_grpc

from . import metrics
from .client import Channel
from .eventlog import EventLog
from .interceptors import Pipeline
from .journal import Journal, open_store
from .signal import Signal
from .state import NAME as STATE
from .state import ServedView, State

C = TypeVar("C")
S = TypeVar("S")


class Server(Protocol):
    """Where handlers are registered: grpc.aio.Server or LocalServer."""

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        """As in gRPC."""


@dataclass(frozen=True, kw_only=True)
class ModelServer:
    """For who may load models: Triton's repository of this run, and the key that it wants."""

    models: Path
    admin_key: str


class Context(Generic[C]):
    """The surroundings of one service."""

    def __init__(
        self,
        *,
        name: str,
        version: str,
        config: C,
        data_dir: Path,
        logs: Path | None = None,
        journal: str = "sqlite",
        events: EventLog,
        connect: Callable[[str], Channel],
        fail: Callable[[BaseException], None],
        model_server: ModelServer | None = None,
        snapshots: Path | None = None,
    ) -> None:
        self.name = name
        self.version = version
        self.config = config
        self.data_dir = data_dir
        self.logs = logs  # of all processes of this run; None without processes
        self.model_server = model_server  # None for who may not load models
        # Where market_data leaves snapshots on this host; None for who may not fetch any, and where nothing is shared.
        self.snapshots = snapshots
        self._journal_address = journal
        self.events = events
        self.pipeline = Pipeline()
        self._connect = connect
        self._fail = fail
        self._channels: dict[str, Channel] = {}
        self._registrations: list[Callable[[Any], None]] = []
        self._services: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._closers: list[Callable[[], Awaitable[None]]] = []
        self.draining = False
        self._signals: list[Signal] = []
        self._state: State | None = None

    def stub(self, stub_type: Callable[[grpc.aio.Channel], S], service: str) -> S:
        """A generated stub that speaks to `service`."""
        if service not in self._channels:
            self._channels[service] = self._connect(service)
        return stub_type(cast(grpc.aio.Channel, self._channels[service]))

    def open_journal(self) -> Journal:
        """This service's own stream. Its answers to mutations become idempotent across restarts."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        holder = f"{socket.gethostname()}:{self.data_dir.resolve()}"
        store = open_store(self._journal_address, self.data_dir / "journal.db", self.name, holder)
        journal = Journal(store, self.name, self.version, self._fail, self.data_dir / "journal.watermark")
        metrics.figure("alphamesh_journal_events_total", "Events that are durable.", lambda: journal.durable_seq)
        metrics.figure("alphamesh_journal_commits_total", "Writes since the start.", lambda: journal.commits)
        self.pipeline.journal = journal
        self.events.attach(journal)
        self._state_service().keep(journal)
        return journal

    def serve_view(self, view: ServedView) -> None:
        """Lets operators compare `view` with the journals that it is made from."""
        self._state_service().views.append(view)

    def _state_service(self) -> State:
        if self._state is None:
            self._state = State(self.signal(), lambda: self.draining)
            self.add(state_pb2_grpc.add_StateServiceServicer_to_server, self._state, STATE)
        return self._state

    def add(self, register: Callable[[Any, Any], None], servicer: object, full_name: str) -> None:
        """Registers a servicer: ``add(add_XServicer_to_server, servicer, "alphamesh.x.v1.XService")``."""
        self._registrations.append(lambda server: register(servicer, server))
        self._services.append(full_name)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Runs `work` beside the service. It is meant to run for ever: when it fails, the service does."""
        task = asyncio.create_task(work, name=f"{self.name}-{name}")
        task.add_done_callback(self._finished)
        self._tasks.append(task)

    def on_close(self, closer: Callable[[], Awaitable[None]]) -> None:
        """Calls `closer` while stopping, last added first."""
        self._closers.append(closer)

    def drain(self) -> None:
        """The service is about to stop: long streams end themselves."""
        self.draining = True
        for signal in self._signals:
            signal.notify()

    def signal(self) -> Signal:
        """A signal that draining notifies too, so that a stream that waits for news sees that it must end."""
        signal = Signal()
        self._signals.append(signal)
        return signal

    @property
    def services(self) -> tuple[str, ...]:
        """Full names of the registered services."""
        return tuple(self._services)

    def register(self, server: Server) -> None:
        """Puts all servicers on `server`."""
        for registration in self._registrations:
            registration(server)

    async def close(self) -> None:
        """Ends background work and connections."""
        self.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for closer in reversed(self._closers):
            await closer()
        for channel in self._channels.values():
            await channel.close()
        await self.events.close()
        if self.pipeline.journal is not None:
            self.pipeline.journal.close()

    def _finished(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)


@dataclass(frozen=True, kw_only=True)
class ServiceDefinition(Generic[C]):
    """One service: its name in the topology, its version, its configuration and how to build it.

    niceness: how much lower its process's priority is; above 0 for what no decision waits for.
    """

    name: str
    version: str
    config: type[C]
    build: Callable[[Context[C]], Awaitable[None]]
    niceness: int = 0
