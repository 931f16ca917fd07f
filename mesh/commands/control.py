"""scale, drain, weights, certificates rotate: changes of a system that is up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import grpc

from alphamesh.mesh.v1 import control_pb2, control_pb2_grpc
from python_services.kit.client import open_channel
from python_services.kit.errors import invalid

from ..connect import OPERATOR
from ..control import SERVICE
from ..errors import MeshError
from ..rundir import RunDir


async def scale(group: str, replicas: int, data_dir: Path | None) -> int:
    """Returns when there are as many as asked for."""
    async with _control(data_dir) as stub:
        request = control_pb2.ScaleServiceRequest(group=group, replicas=replicas)
        _show((await stub.ScaleService(request)).replicas)
    return 0


async def drain(name: str, data_dir: Path | None) -> int:
    """Returns when the replica has ended."""
    async with _control(data_dir) as stub:
        _show((await stub.DrainReplica(control_pb2.DrainReplicaRequest(name=name))).replicas)
    return 0


async def weights(service: str, shares: Sequence[str], data_dir: Path | None) -> int:
    """`shares`: "v2=10"."""
    wanted = [_share(text) for text in shares]
    async with _control(data_dir) as stub:
        response = await stub.ShiftWeights(control_pb2.ShiftWeightsRequest(service=service, weights=wanted))
    for weight in response.weights:
        print(f"{weight.version:12} {weight.percent:3} %")
    return 0


async def rotate(identity: str | None, data_dir: Path | None) -> int:
    """New certificates, at once."""
    async with _control(data_dir) as stub:
        response = await stub.RotateCertificates(control_pb2.RotateCertificatesRequest(identity=identity or ""))
    for certificate in response.certificates:
        print(f"{certificate.holder:24} valid until {certificate.expire_time.ToDatetime():%Y-%m-%d %H:%M:%S} UTC")
    return 0


@asynccontextmanager
async def _control(data_dir: Path | None) -> AsyncIterator[control_pb2_grpc.ControlServiceAsyncStub]:
    run = RunDir.find(data_dir)
    if run.holder() is None or not run.control.exists():
        raise MeshError(f"no system takes commands in {run.path}; start one with `alphamesh up`")
    channel = open_channel(OPERATOR, SERVICE, run.control)
    try:
        stub = control_pb2_grpc.ControlServiceStub(cast(grpc.aio.Channel, channel))
        yield stub
    finally:
        await channel.close()


def _share(text: str) -> control_pb2.Weight:
    version, _, percent = text.partition("=")
    if not version or not percent.isdecimal():
        raise invalid("weights", f"{text!r} is no share", "write VERSION=PERCENT, for example stable=90 v2=10")
    return control_pb2.Weight(version=version, percent=int(percent))


def _show(replicas: Sequence[control_pb2.Replica]) -> None:
    for replica in replicas:
        print(f"{replica.name:24} {replica.state}")
