"""Which version of a model answers: the registry's rollout, followed while the service runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc

from alphamesh.feature.v1 import feature_pb2, feature_pb2_grpc
from alphamesh.model.v1 import model_pb2, model_pb2_grpc
from python_services.kit import rollout as rollouts
from python_services.kit import telemetry
from python_services.kit.client import persist
from python_services.kit.errors import is_away

_PAUSE_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version of the model, and the columns that it was trained with, in their order."""

    number: int
    feature_set_version: str
    features: tuple[str, ...]


class Versions:
    """The rollout of one model as the registry last told it."""

    def __init__(
        self,
        model_id: str,
        registry: model_pb2_grpc.ModelRegistryServiceAsyncStub,
        features: feature_pb2_grpc.FeatureServiceAsyncStub,
        patience_s: float,
    ) -> None:
        self._model_id = model_id
        self._registry = registry
        self._features = features
        self._patience_s = patience_s
        self._rollout = model_pb2.Rollout()
        self._known: dict[int, Version] = {}

    async def start(self) -> None:
        """Returns when there is a champion. Raises AioRpcError once the patience is over."""

        async def ask() -> model_pb2.Rollout:
            request = model_pb2.GetRolloutRequest(model_id=self._model_id)
            return (await self._registry.GetRollout(request)).rollout

        await self._take(await _until_known(ask, self._patience_s))

    async def follow(self) -> None:
        """Never returns. While the registry is away, what it said last goes on."""
        seq = 0
        while True:
            request = model_pb2.WatchRolloutsRequest(model_id=self._model_id, from_seq=seq)
            try:
                async for message in self._registry.WatchRollouts(request, timeout=None):
                    for rollout in message.updates:
                        await self._take(rollout)
                    seq = 0 if message.end_reason == message.END_REASON_COMPACTED else message.seq + 1
            except grpc.aio.AioRpcError as error:
                if not is_away(error) and error.code() is not grpc.StatusCode.OUT_OF_RANGE:
                    raise
                seq = 0
                telemetry.logger().warning("the registry is away", error=error.details())
            await asyncio.sleep(_PAUSE_S)

    def choose(self, key: str) -> Version:
        """The version that answers for `key`: always the same one as long as the rollout is."""
        return self._known[rollouts.choose(self._rollout, key)]

    def beside(self, used: Version) -> tuple[Version, ...]:
        """Versions that are asked the same question, and whose answers are recorded and not used."""
        numbers = [number for number in rollouts.asked(self._rollout) if number != used.number]
        return tuple(self._known[number] for number in numbers if self._known[number].features == used.features)

    async def _take(self, rollout: model_pb2.Rollout) -> None:
        """Everything about a version is known before it is chosen."""
        wanted = {rollout.champion_version, rollout.canary_version, *rollout.shadow_versions} - {0}
        for number in sorted(wanted - self._known.keys()):
            self._known[number] = await self._fetch(number)
        self._rollout = rollout

    async def _fetch(self, number: int) -> Version:
        model = model_pb2.GetModelVersionRequest(model_id=self._model_id, version=number)
        found = await persist(lambda: self._registry.GetModelVersion(model), self._patience_s)
        version = found.model_version.lineage.feature_set_version
        wanted = feature_pb2.GetFeatureSetRequest(feature_set_version=version)
        answer = await persist(lambda: self._features.GetFeatureSet(wanted), self._patience_s)
        names = tuple(reference.feature_id for reference in answer.feature_set.features)
        return Version(number=number, feature_set_version=version, features=names)


async def _until_known(ask: Callable[[], Awaitable[model_pb2.Rollout]], patience_s: float) -> model_pb2.Rollout:
    """A registry that has just started may still be validating what ships."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + patience_s
    while True:
        problem = "it has no champion"
        try:
            found = await ask()
            if found.champion_version:
                return found
        except grpc.aio.AioRpcError as error:
            if not is_away(error) and error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            problem = error.details() or error.code().name
        if loop.time() > give_up:
            raise TimeoutError(f"the registry named no champion within {patience_s:g} s: {problem}")
        await asyncio.sleep(_PAUSE_S)
