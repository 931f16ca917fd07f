"""The composition root of the local transport: every service of a topology in this process, without sockets.

The same definitions, servicers, stubs and interceptors as with a process per service; only the
transport and the event log's driver differ, so the same session gives the same decisions, bit for bit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, cast

import grpc

from alphamesh.audit.v1 import event_pb2
from inference import grpc_service_pb2_grpc
from mesh import triton_models, triton_section
from mesh.topology import Service, Topology

from .kit import config as configuration
from .kit import telemetry
from .kit.client import Channel, declared_edge
from .kit.context import Context, ModelServer, ServiceDefinition
from .kit.eventlog import DeclaredReads, LocalEventLog
from .kit.interceptors import Pipeline
from .kit.local import LocalServer, LocalTransport
from .kit.local_models import LocalModels
from .kit.snapshots import folder_of

S = TypeVar("S")


class LocalSystemError(RuntimeError):
    """A service failed while it was running: its journal, or its background work."""


class LocalSystem:
    """All services, built in start order on entry and closed in reverse order on exit.

    When a service fails, the task that entered is cancelled and leaves with LocalSystemError, as a
    process would end. One system works on a run directory at a time; the caller holds its lock.
    """

    def __init__(self, run_dir: Path, topology: Topology) -> None:
        self._run_dir = run_dir
        self._topology = topology
        self._transport = LocalTransport()
        self._events = LocalEventLog()
        self._contexts: list[Context[Any]] = []
        self._owner: asyncio.Task[Any] | None = None
        self._failure: tuple[str, BaseException] | None = None
        self._cancelled_owner = False
        self._model_server: ModelServer | None = None
        self.versions: dict[str, str] = {}
        self.startup_ms: dict[str, float] = {}

    async def __aenter__(self) -> LocalSystem:
        """Raises what a service's build raises; those that were built are closed."""
        telemetry.calm_collector()
        self._owner = asyncio.current_task()
        try:
            await self._events.start()
            self._serve_models()
            for service in self._topology.services:
                begun = time.perf_counter()
                await self.start(service.name)
                self.startup_ms[service.name] = round((time.perf_counter() - begun) * 1e3, 1)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()
        if self._failure is None:
            return
        if self._cancelled_owner and self._owner is not None:
            self._owner.uncancel()
        name, cause = self._failure
        raise LocalSystemError(f"{name} failed: {type(cause).__name__}: {cause}") from cause

    def stub(self, stub_type: Callable[[grpc.aio.Channel], S], service: str, *, caller: str = "operator") -> S:
        """A generated stub that speaks to `service`."""
        return stub_type(cast(grpc.aio.Channel, self._transport.channel(caller, service)))

    async def subscribe(self, stream: str) -> AsyncGenerator[event_pb2.EventFrame, None]:
        """Frames of a stream from its beginning, then as they become durable."""
        async for frame in self._events.subscribe(stream, 1):
            yield frame

    async def stop(self, service: str) -> None:
        """Ends one service: calls to it are UNAVAILABLE from now on."""
        context = next(context for context in self._contexts if context.name == service)
        self._contexts.remove(context)
        self._transport.unbind(service)
        await context.close()

    async def start(self, service: str) -> None:
        """Builds a stopped service again, from what is durable."""
        # A task of its own: what it sets in its context, for its log lines, stays there.
        await asyncio.create_task(self._build(self._topology.service(service)))

    def _serve_models(self) -> None:
        """Where the mesh has Triton: the topology's models, or a copy when a service may change what is served."""
        triton = self._topology.triton
        if triton is None or not triton.enabled:
            return
        models = Path(triton.models)
        administered = any(
            call.service == triton_section.NAME and triton_section.administers(call.methods)
            for service in self._topology.services
            for call in service.calls
        )
        if administered:
            self._model_server = ModelServer(models=self._run_dir / triton_section.NAME / "models", admin_key="")
            triton_models.fill(self._model_server.models, models)
            models = self._model_server.models
        server = LocalServer(Pipeline())
        grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(LocalModels(models), cast(Any, server))
        self._transport.bind(triton_section.NAME, server)

    async def _build(self, service: Service) -> None:
        telemetry.as_service(service.name)
        definition: ServiceDefinition[Any] = import_module(f"{service.module}.service").DEFINITION
        context = Context(
            name=definition.name,
            version=definition.version,
            config=configuration.load(definition.config, service.config, where=service.name),
            data_dir=self._run_dir / "data" / service.name,
            journal=self._topology.journals.address,
            events=DeclaredReads(self._events, service.name, service.reads),
            connect=lambda callee: self._connect(service, callee),
            fail=lambda error: self._fail(service.name, error),
            model_server=self._model_server,
            snapshots=folder_of(self._run_dir) if self._topology.shares_snapshots(service) else None,
        )
        self._contexts.append(context)
        await definition.build(context)
        server = LocalServer(context.pipeline)
        context.register(server)
        self._transport.bind(service.name, server)
        self.versions[service.name] = definition.version

    def _connect(self, service: Service, callee: str) -> Channel:
        return self._transport.channel(service.name, declared_edge(service.name, callee, service.callees))

    def _fail(self, name: str, error: BaseException) -> None:
        if self._failure is not None:
            return
        self._failure = (name, error)
        if self._owner is not None and not self._owner.done():
            self._cancelled_owner = self._owner.cancel()

    async def _close(self) -> None:
        errors: list[Exception] = []
        while self._contexts:
            context = self._contexts.pop()
            self._transport.unbind(context.name)
            try:
                await context.close()
            except Exception as error:  # the others are closed first
                errors.append(error)
        if errors:
            raise ExceptionGroup("services could not be closed", errors)
