"""AgentService of the learned agents: features, then the model, then messages."""

from __future__ import annotations

import time
from typing import Any

import pyarrow as pa

from alphamesh.agent.v1 import agent_pb2, agent_pb2_grpc
from alphamesh.feature.v1 import feature_pb2, feature_pb2_grpc
from alphamesh.model.v1 import model_pb2_grpc
from python_services.kit import telemetry
from python_services.kit.agents.cluster import fill
from python_services.kit.context import Context, ServiceDefinition
from python_services.kit.errors import not_found
from python_services.kit.inference import InferenceClient
from python_services.kit.snapshots import Snapshot, SnapshotClient

from . import logic
from .config import Config
from .observing import Observer, Question
from .versions import Version, Versions


class AgentService(agent_pb2_grpc.AgentServiceServicer):
    """A function of a snapshot and of the version that the rollout gives its decision."""

    def __init__(
        self,
        config: Config,
        snapshots: SnapshotClient,
        features: feature_pb2_grpc.FeatureServiceAsyncStub,
        models: InferenceClient,
        versions: Versions,
        observer: Observer,
    ) -> None:
        self._config = config
        self._snapshots = snapshots
        self._features = features
        self._models = models
        self._versions = versions
        self._observer = observer

    async def ListAgents(self, request: agent_pb2.ListAgentsRequest, context: Any) -> agent_pb2.ListAgentsResponse:
        """See the contract."""
        return agent_pb2.ListAgentsResponse(
            agents=[
                agent_pb2.Agent(
                    agent_id=logic.AGENT_ID,
                    version=logic.VERSION,
                    kind=agent_pb2.Agent.KIND_LEARNED,
                    minimum_bars=self._config.minimum_bars,
                    horizon_bars=logic.HORIZON_BARS,
                    description="Probability of a higher close and volatility, by gradient boosting on daily bars.",
                )
            ]
        )

    async def ComputeForecasts(
        self, request: agent_pb2.ComputeForecastsRequest, context: Any
    ) -> agent_pb2.ComputeForecastsResponse:
        """See the contract."""
        for agent_id in request.agent_ids:
            if agent_id != logic.AGENT_ID:
                raise not_found("agent", agent_id, f"this cluster has {logic.AGENT_ID}")
        telemetry.decision.set(request.decision_id)
        snapshot = await self._snapshots.get(request.snapshot_id)
        version = self._versions.choose(request.decision_id)
        table = await self._table(version, snapshot)
        rows, answer = table.complete(), None
        if len(rows):
            begun = time.perf_counter_ns()
            answer = await logic.ask(
                self._models, self._config.model_id, version.number, table, rows, self._config.inference_timeout_s
            )
            self._observer.take(
                Question(
                    decision_id=request.decision_id,
                    snapshot=snapshot,
                    table=table,
                    rows=rows,
                    used=version,
                    others=self._versions.beside(version),
                    answer=answer,
                    latency_ns=time.perf_counter_ns() - begun,
                )
            )
        found = logic.forecast(f"{self._config.model_id}:{version.number}", table, rows, answer)
        if found.degraded is not None:
            telemetry.logger().warning("degraded", agent=logic.AGENT_ID, reason=found.degraded)
        response = agent_pb2.ComputeForecastsResponse(
            snapshot_id=snapshot.snapshot_id, data_sha256=snapshot.data_sha256
        )
        fill(response.forecasts.add(), found)
        return response

    async def _table(self, version: Version, snapshot: Snapshot) -> logic.Table:
        request = feature_pb2.GetOnlineFeaturesRequest(
            feature_set_version=version.feature_set_version,
            known_at_ns=snapshot.as_of_ns,
            snapshot_id=snapshot.snapshot_id,
        )
        content = (await self._features.GetOnlineFeatures(request)).arrow_ipc
        batch = pa.ipc.open_file(pa.BufferReader(content)).get_batch(0)
        found = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in version.features}
        return logic.in_order(found, version.features)


async def build(context: Context[Config]) -> None:
    """Ready once the registry has named a champion."""
    config = context.config
    features = context.stub(feature_pb2_grpc.FeatureServiceStub, "feature_store")
    registry = context.stub(model_pb2_grpc.ModelRegistryServiceStub, "model_registry")
    versions = Versions(config.model_id, registry, features, config.start_patience_s)
    await versions.start()
    context.spawn(versions.follow(), "rollout")
    models = InferenceClient.of(context, failures=config.breaker_failures, reset_s=config.breaker_reset_s)
    observer = Observer(config.model_id, registry, models, config.inference_timeout_s)
    context.spawn(observer.run(), "observations")
    snapshots = SnapshotClient.of(context)
    service = AgentService(config, snapshots, features, models, versions, observer)
    name = agent_pb2.DESCRIPTOR.services_by_name["AgentService"].full_name
    context.add(agent_pb2_grpc.add_AgentServiceServicer_to_server, service, name)


DEFINITION = ServiceDefinition(name="learned_agent", version="0.1.0", config=Config, build=build)
