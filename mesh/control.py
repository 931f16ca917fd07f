"""The control channel of a running system: ControlService on a Unix socket of the run directory.

Who may open it is the kernel's matter: the folder and the socket belong to the owner. Within that, the operator only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc

from alphamesh.mesh.v1 import control_pb2, control_pb2_grpc
from python_services.kit import telemetry
from python_services.kit.client import socket_address
from python_services.kit.errors import ServiceError
from python_services.kit.interceptors import Pipeline, ServerInterceptor

from .connect import OPERATOR
from .instances import Instance
from .replicas import Replicas
from .rundir import RunDir
from .supervisor import Status, Supervisor
from .topology import Topology

SERVICE = "control"


class Control(control_pb2_grpc.ControlServiceServicer):
    """Translates messages to changes and back."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas

    async def ScaleService(self, request: control_pb2.ScaleServiceRequest, context: Any) -> Any:
        """See the contract."""
        _admit()
        present = await self._replicas.scale(request.group, request.replicas)
        return control_pb2.ScaleServiceResponse(replicas=_messages(present))

    async def DrainReplica(self, request: control_pb2.DrainReplicaRequest, context: Any) -> Any:
        """See the contract."""
        _admit()
        return control_pb2.DrainReplicaResponse(replicas=_messages(await self._replicas.drain(request.name)))

    async def ShiftWeights(self, request: control_pb2.ShiftWeightsRequest, context: Any) -> Any:
        """See the contract."""
        _admit()
        wanted = {weight.version: weight.percent for weight in request.weights}
        found = await self._replicas.shift(request.service, wanted)
        weights = [control_pb2.Weight(version=version, percent=percent) for version, percent in found.items()]
        return control_pb2.ShiftWeightsResponse(weights=weights)

    async def RotateCertificates(self, request: control_pb2.RotateCertificatesRequest, context: Any) -> Any:
        """See the contract."""
        _admit()
        response = control_pb2.RotateCertificatesResponse()
        for holder, expires in (await self._replicas.rotate(request.identity)).items():
            response.certificates.add(holder=holder).expire_time.FromDatetime(expires)
        return response


@asynccontextmanager
async def serving(run: RunDir, topology: Topology, supervisor: Supervisor) -> AsyncIterator[None]:
    """Takes commands inside."""
    server = grpc.aio.server(interceptors=[ServerInterceptor(Pipeline())], options=[("grpc.so_reuseport", 0)])
    servicer = Control(Replicas(supervisor, topology))
    control_pb2_grpc.add_ControlServiceServicer_to_server(servicer, server)
    run.control.unlink(missing_ok=True)
    server.add_insecure_port(socket_address(run.control))
    await server.start()
    run.control.chmod(0o600)
    try:
        yield
    finally:
        await server.stop(None)


def _admit() -> None:
    caller = telemetry.caller.get()
    if caller != OPERATOR:
        raise ServiceError(
            grpc.StatusCode.PERMISSION_DENIED,
            "OPERATOR_ONLY",
            f"{caller or 'a caller without a name'} may not change the system; only {OPERATOR} may",
        )


def _messages(present: Mapping[str, tuple[Instance, Status]]) -> list[control_pb2.Replica]:
    return [
        control_pb2.Replica(name=name, group=instance.group.name, state=status.state)
        for name, (instance, status) in present.items()
    ]
