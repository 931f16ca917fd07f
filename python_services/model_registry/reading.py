"""The registry's servicer, what only reads. Nothing that is not durable is read."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc

from alphamesh.model.v1 import model_pb2, model_pb2_grpc
from python_services.kit.errors import ServiceError, not_found
from python_services.kit.paging import page

from . import health, lifecycle
from .config import Config
from .registry import Registry
from .syncing import Syncer
from .watching import Watching

PAGE = 100


class Reading(model_pb2_grpc.ModelRegistryServiceServicer):
    """Versions, names, rollouts, transitions, health."""

    def __init__(self, config: Config, registry: Registry, syncer: Syncer | None, watching: Watching) -> None:
        self._config = config
        self._registry = registry
        self._syncer = syncer
        self._watching = watching

    async def GetModelVersion(
        self, request: model_pb2.GetModelVersionRequest, context: object
    ) -> model_pb2.GetModelVersionResponse:
        """By number, alias or stage."""
        seq = await self._applied(request.min_seq)
        model = self._registry.model(request.model_id)
        match request.WhichOneof("selector"):
            case "alias":
                number = model.named.get(request.alias, 0)
                what = f"alias {request.alias}"
            case "stage":
                held = [n for n, version in model.versions.items() if version.message.stage == request.stage]
                number, what = max(held, default=0), lifecycle.name(request.stage)
            case _:
                number, what = request.version, str(request.version)
        if number not in model.versions:
            raise not_found("version", f"{request.model_id}/{what}", "list versions with ListModelVersions")
        return model_pb2.GetModelVersionResponse(model_version=model.versions[number].message, applied_seq=seq)

    async def ListModelVersions(
        self, request: model_pb2.ListModelVersionsRequest, context: object
    ) -> model_pb2.ListModelVersionsResponse:
        """By model, newest first."""
        seq = await self._applied(request.min_seq)
        found = [
            version.message
            for name, model in sorted(self._registry.state.models.items())
            for _, version in sorted(model.versions.items(), reverse=True)
            if request.model_id in ("", name) and (not request.stages or version.message.stage in request.stages)
        ]
        scope = f"ListModelVersions.{request.model_id}.{sorted(request.stages)}"
        items, token = page(found, request.page_size, request.page_token, scope=scope, default=PAGE)
        return model_pb2.ListModelVersionsResponse(model_versions=items, next_page_token=token, applied_seq=seq)

    async def ListAliases(
        self, request: model_pb2.ListAliasesRequest, context: object
    ) -> model_pb2.ListAliasesResponse:
        """By name."""
        seq = await self._applied(request.min_seq)
        found = [
            model_pb2.Alias(model_id=request.model_id, alias=name, version=version)
            for name, version in sorted(self._registry.model(request.model_id).named.items())
        ]
        scope = f"ListAliases.{request.model_id}"
        items, token = page(found, request.page_size, request.page_token, scope=scope, default=PAGE)
        return model_pb2.ListAliasesResponse(aliases=items, next_page_token=token, applied_seq=seq)

    async def GetRollout(self, request: model_pb2.GetRolloutRequest, context: object) -> model_pb2.GetRolloutResponse:
        """Which versions answer."""
        seq = await self._applied(request.min_seq)
        return model_pb2.GetRolloutResponse(rollout=self._rollout(request.model_id), applied_seq=seq)

    async def ListTransitions(
        self, request: model_pb2.ListTransitionsRequest, context: object
    ) -> model_pb2.ListTransitionsResponse:
        """Oldest first."""
        seq = await self._applied(request.min_seq)
        found = self._registry.model(request.model_id).transitions
        scope = f"ListTransitions.{request.model_id}"
        items, token = page(found, request.page_size, request.page_token, scope=scope, default=PAGE)
        return model_pb2.ListTransitionsResponse(transitions=items, next_page_token=token, applied_seq=seq)

    async def WatchRollouts(
        self, request: model_pb2.WatchRolloutsRequest, context: object
    ) -> AsyncIterator[model_pb2.WatchRolloutsResponse]:
        """See watching.py."""
        async for response in self._watching.watch(request):
            yield response

    async def GetModelHealth(
        self, request: model_pb2.GetModelHealthRequest, context: object
    ) -> model_pb2.GetModelHealthResponse:
        """Counters, losses, drift and alerts of one version."""
        seq = await self._applied(request.min_seq)
        version = self._registry.version(request.model_id, request.version)
        loaded = None
        if self._syncer is not None:
            loaded = request.version in self._syncer.loaded.get(request.model_id, ())
        model = self._registry.model(request.model_id)
        found = health.message(model, request.version, self._config.rollouts, loaded)
        return model_pb2.GetModelHealthResponse(health=found, alerts=version.alerts, applied_seq=seq)

    async def _applied(self, min_seq: int) -> int:
        """The sequence that an answer includes; nothing that is not durable is read."""
        await self._registry.journal.barrier()
        seq = self._registry.state.seq
        if min_seq > seq:
            message = f"min_seq is {min_seq} and the registry is at {seq}; ask again"
            raise ServiceError(grpc.StatusCode.UNAVAILABLE, "NOT_YET_APPLIED", message)
        return seq

    def _rollout(self, model_id: str) -> model_pb2.Rollout:
        found = self._registry.model(model_id).rollout
        if found is None:
            raise not_found("rollout", model_id, "promote a version to SHADOW first")
        return found
