"""models: versions, rollouts and what was observed of them, from the registry of a run that is up or down."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import grpc
import orjson

from alphamesh.model.v1 import model_pb2, model_pb2_grpc

from .. import model_report
from ..connect import System, reading, running
from ..errors import MeshError
from ..model_inbox import placed
from ..rundir import RunDir

SERVICE = "model_registry"
_NEXT = {
    model_pb2.MODEL_STAGE_VALIDATED: model_pb2.MODEL_STAGE_SHADOW,
    model_pb2.MODEL_STAGE_SHADOW: model_pb2.MODEL_STAGE_CANARY,
    model_pb2.MODEL_STAGE_CANARY: model_pb2.MODEL_STAGE_CHAMPION,
}


async def list_versions(model: str | None, data_dir: Path | None, as_json: bool) -> int:
    """All versions, newest first."""
    async with reading(RunDir.find(data_dir)) as system:
        stub = _stub(system)
        versions = await _versions(stub, model or "")
        names = sorted({version.model_id for version in versions})
        rollouts = {name: await _rollout(stub, name) for name in names}
    rows = [model_report.row(version, rollouts[version.model_id]) for version in versions]
    if as_json:
        return _print(rows)
    if not rows:
        print(f"no versions{f' of {model}' if model else ''}; shipped ones are registered at the first start")
        return 0
    model_report.show_list(rows)
    return 0


async def show(model: str, number: int | None, data_dir: Path | None, as_json: bool) -> int:
    """One version with everything that is known of it."""
    async with reading(RunDir.find(data_dir)) as system:
        stub = _stub(system)
        version = await _choose(stub, model, number, "champion")
        health = await stub.GetModelHealth(model_pb2.GetModelHealthRequest(model_id=model, version=version.version))
        content = model_report.row(version, await _rollout(stub, model))
        content |= model_report.details(version, health, await _transitions(stub, model, version.version))
    if as_json:
        return _print(content)
    model_report.show_version(content)
    return 0


async def register(folder: Path, name: str, owner: str, data_dir: Path | None, as_json: bool) -> int:
    """A trained version, as `alphamesh train` leaves it, into the registry."""
    run = RunDir.find(data_dir)
    async with running(run) as system:
        with placed(run, folder) as artifact:
            request = model_pb2.RegisterModelVersionRequest(
                request_id=str(uuid.uuid4()), model_id=name, artifact=artifact, owner=owner
            )
            answer = await _stub(system).RegisterModelVersion(request)
    version = answer.model_version
    if as_json:
        return _print(model_report.row(version, model_pb2.Rollout()))
    print(
        f"{name}/{version.version} is {model_report.stage(version.stage)}; it is loaded and proved before it can go on"
    )
    return 0


async def promote(model: str, number: int, reason: str, check: bool, data_dir: Path | None, as_json: bool) -> int:
    """One stage on."""
    async with running(RunDir.find(data_dir)) as system:
        stub = _stub(system)
        version = await _choose(stub, model, number, "")
        if version.stage not in _NEXT:
            stage = model_report.stage(version.stage)
            raise MeshError(f"{model}/{number} is {stage}; only VALIDATED, SHADOW and CANARY versions are promoted")
        answer = await stub.PromoteModelVersion(
            model_pb2.PromoteModelVersionRequest(
                request_id=str(uuid.uuid4()),
                model_id=model,
                version=number,
                to_stage=_NEXT[version.stage],
                etag=version.etag,
                reason=reason,
                validate_only=check,
            )
        )
    row = model_report.row(answer.model_version, answer.rollout)
    if as_json:
        return _print(row)
    print("it may be promoted" if check else f"{model}/{number} is {row['stage']}")
    return 0


async def rollback(model: str, reason: str, data_dir: Path | None, as_json: bool) -> int:
    """The canary or the champion out, at once."""
    async with running(RunDir.find(data_dir)) as system:
        answer = await _stub(system).RollbackModel(
            model_pb2.RollbackModelRequest(request_id=str(uuid.uuid4()), model_id=model, reason=reason)
        )
    row = model_report.row(answer.rolled_back, answer.rollout)
    if as_json:
        return _print(row | {"champion_version": answer.rollout.champion_version})
    print(f"{model}/{row['version']} is out of service; version {answer.rollout.champion_version} answers")
    return 0


async def compare(model: str, first: int | None, second: int | None, data_dir: Path | None, as_json: bool) -> int:
    """Two versions side by side."""
    async with reading(RunDir.find(data_dir)) as system:
        stub = _stub(system)
        versions = [await _choose(stub, model, first, "champion"), await _choose(stub, model, second, "challenger")]
        rollout = await _rollout(stub, model)
        content = []
        for version in versions:
            request = model_pb2.GetModelHealthRequest(model_id=model, version=version.version)
            health = await stub.GetModelHealth(request)
            content.append(model_report.row(version, rollout) | model_report.details(version, health, ()))
    if as_json:
        return _print(content)
    model_report.show_comparison(model, content)
    return 0


def _stub(system: System) -> model_pb2_grpc.ModelRegistryServiceAsyncStub:
    return system.stub(model_pb2_grpc.ModelRegistryServiceStub, SERVICE)


async def _versions(stub: model_pb2_grpc.ModelRegistryServiceAsyncStub, model: str) -> list[model_pb2.ModelVersion]:
    found: list[model_pb2.ModelVersion] = []
    token = ""
    while True:
        request = model_pb2.ListModelVersionsRequest(model_id=model, page_size=1000, page_token=token)
        answer = await stub.ListModelVersions(request)
        found += answer.model_versions
        token = answer.next_page_token
        if not token:
            return found


async def _transitions(
    stub: model_pb2_grpc.ModelRegistryServiceAsyncStub, model: str, version: int
) -> Iterable[model_pb2.Transition]:
    request = model_pb2.ListTransitionsRequest(model_id=model, page_size=1000)
    return [each for each in (await stub.ListTransitions(request)).transitions if each.version == version]


async def _rollout(stub: model_pb2_grpc.ModelRegistryServiceAsyncStub, model: str) -> model_pb2.Rollout:
    """Empty while no version has reached SHADOW."""
    try:
        return (await stub.GetRollout(model_pb2.GetRolloutRequest(model_id=model))).rollout
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return model_pb2.Rollout(model_id=model)
        raise


async def _choose(
    stub: model_pb2_grpc.ModelRegistryServiceAsyncStub, model: str, number: int | None, alias: str
) -> model_pb2.ModelVersion:
    """The version asked for; without one that of the alias, or the newest. Raises MeshError."""
    versions = await _versions(stub, model)
    if not versions:
        known = sorted({version.model_id for version in await _versions(stub, "")})
        raise MeshError(f"there is no model {model!r}; there are {', '.join(known) or 'none'}")
    if number is None:
        aliases = (await stub.ListAliases(model_pb2.ListAliasesRequest(model_id=model))).aliases
        number = next((each.version for each in aliases if each.alias == alias), versions[0].version)
    for version in versions:
        if version.version == number:
            return version
    there = ", ".join(str(version.version) for version in reversed(versions))
    raise MeshError(f"{model} has no version {number}; it has {there}")


def _print(content: Any) -> int:
    print(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode())
    return 0
