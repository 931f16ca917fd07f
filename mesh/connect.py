"""Reaching the services of a run: over its sockets when it is up, from its data when it is down."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar, cast

import grpc

from python_services.kit import telemetry
from python_services.kit.client import Channel, open_channel

from . import topology
from .errors import MeshError
from .rundir import RunDir

S = TypeVar("S")
OPERATOR = "operator"


class System(Protocol):
    """Where stubs come from; nobody can tell which transport is below."""

    def stub(self, stub_type: Callable[[grpc.aio.Channel], S], service: str) -> S:
        """A generated stub that speaks to `service`."""


class SocketSystem:
    """The services of a run that is up."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._channels: dict[str, Channel] = {}

    def stub(self, stub_type: Callable[[grpc.aio.Channel], S], service: str) -> S:
        """A generated stub that speaks to `service`."""
        if service not in self._channels:
            egress = self._run.egress(OPERATOR)
            path = egress if egress.exists() else self._run.socket(service)
            self._channels[service] = open_channel(OPERATOR, service, path)
        return stub_type(cast(grpc.aio.Channel, self._channels[service]))

    async def close(self) -> None:
        """Closes all connections."""
        for channel in self._channels.values():
            await channel.close()


@asynccontextmanager
async def running(run: RunDir) -> AsyncIterator[SocketSystem]:
    """The system that works in `run` now. Raises MeshError when it is down."""
    holder = run.holder()
    state = run.state()
    if holder is None:
        raise MeshError(f"no system is up in {run.path}; start one with `alphamesh up` or `alphamesh session --up`")
    if state.get("state") == "LOCAL":
        raise MeshError(
            f"process {holder} runs a local session in {run.path}, which has no sockets; wait until it ends"
        )
    system = SocketSystem(run)
    try:
        yield system
    finally:
        await system.close()


@asynccontextmanager
async def reading(run: RunDir) -> AsyncIterator[System]:
    """The services of `run`, up or down. When it is down they are opened on a copy of its data: looking changes
    nothing."""
    if run.holder() is not None:
        async with running(run) as system:
            yield system
        return
    from python_services.local import LocalSystem

    from .stored import copy_journals

    mesh = run_topology(run)
    with tempfile.TemporaryDirectory(prefix="alphamesh-") as folder:
        copy = Path(folder)
        shutil.copytree(run.path / "data", copy / "data", dirs_exist_ok=True)
        if mesh.journals.kind != "sqlite":
            await copy_journals(run, copy / "data")
            mesh = mesh.with_journals("sqlite")
        with (copy / "log.jsonl").open("wb") as log, telemetry.logging_to("reader", log):
            async with LocalSystem(copy, mesh) as local:
                yield local


def run_topology(run: RunDir) -> topology.Topology:
    """The topology that `run` was started with, the configuration of its services, and where its journals lie."""
    path, kind = run.state().get("topology"), run.state().get("journals", "sqlite")
    mesh = topology.load(Path(path)) if path else topology.load()
    for service in mesh.services:
        settings = run.settings(service.name)
        if settings is not None:
            mesh = mesh.with_config(service.name, settings["config"])
            address = settings["journal"] if kind == "server" else kind
            mesh = replace(mesh, journals=topology.Journals(address=address))
    return mesh
