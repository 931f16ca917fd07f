"""AgentService of the learned agents: features, then the model, then messages."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from alphamesh.agent.v1 import agent_pb2, agent_pb2_grpc
from alphamesh.feature.v1 import feature_pb2, feature_pb2_grpc
from alphamesh.marketdata.v1 import marketdata_pb2_grpc
from alphamesh.model.v1 import model_pb2_grpc
from python_services.kit import telemetry
from python_services.kit.context import Context, ServiceDefinition
from python_services.kit.errors import not_found
from python_services.kit.inference import InferenceClient, InferenceError
from python_services.kit.snapshots import Snapshot, SnapshotClient

from . import logic
from .config import Config
from .observing import Observer, Question
from .versions import Version, Versions

AGENT_ID = "learned.direction"
VERSION = "1"
_UNAVAILABLE = agent_pb2.Abstention.REASON_DEPENDENCY_UNAVAILABLE
_MISSING = agent_pb2.Abstention.REASON_MISSING_DATA


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
                    agent_id=AGENT_ID,
                    version=VERSION,
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
            if agent_id != AGENT_ID:
                raise not_found("agent", agent_id, f"this cluster has {AGENT_ID}")
        snapshot = await self._snapshots.get(request.snapshot_id)
        version = self._versions.choose(request.decision_id)
        message = agent_pb2.AgentForecast(
            agent_id=AGENT_ID,
            agent_version=VERSION,
            model_version=f"{self._config.model_id}:{version.number}",
            horizon_bars=logic.HORIZON_BARS,
        )
        table = await self._table(version, snapshot)
        rows = table.complete()
        silent: dict[str, list[int]] = {}
        for row in sorted(set(range(len(snapshot.instrument_ids))) - set(rows.tolist())):
            silent.setdefault(f"no {table.missing(row)}", []).append(row)
        for detail, index in silent.items():
            message.abstentions.add(instrument_index=index, reason=_MISSING, detail=detail)
        if len(rows):
            begun = time.perf_counter_ns()
            answer = await logic.ask(
                self._models, self._config.model_id, version.number, table, rows, self._config.inference_timeout_s
            )
            if isinstance(answer, logic.Answer):
                self._fill(message, table, rows, answer)
            else:
                _degrade(message, rows, answer)
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
        return agent_pb2.ComputeForecastsResponse(
            snapshot_id=snapshot.snapshot_id, data_sha256=snapshot.data_sha256, forecasts=[message]
        )

    async def _table(self, version: Version, snapshot: Snapshot) -> logic.Table:
        request = feature_pb2.GetOnlineFeaturesRequest(
            feature_set_version=version.feature_set_version,
            instrument_ids=snapshot.instrument_ids,
            known_at_ns=snapshot.as_of_ns,
            snapshot_id=snapshot.snapshot_id,
        )
        content = (await self._features.GetOnlineFeatures(request)).arrow_ipc
        batch = pa.ipc.open_file(pa.BufferReader(content)).get_batch(0)
        found = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in version.features}
        return logic.in_order(found, version.features)

    @staticmethod
    def _fill(
        message: agent_pb2.AgentForecast, table: logic.Table, rows: NDArray[np.int64], answer: logic.Answer
    ) -> None:
        found = logic.forecast(table, rows, answer)
        message.estimates.CopyFrom(
            agent_pb2.Estimates(
                instrument_index=found.index.tolist(),
                expected_return=found.expected_return.tolist(),
                volatility=found.volatility.tolist(),
                confidence=found.confidence.tolist(),
                evidence=[
                    agent_pb2.Evidence(name=name, value=values.tolist()) for name, values in found.evidence.items()
                ],
            )
        )


def _degrade(message: agent_pb2.AgentForecast, rows: NDArray[np.int64], error: InferenceError) -> None:
    """Without a model nothing is said about any instrument, and the forecast says why."""
    reason = f"{message.model_version} did not answer: {error.reason}: {error.message}"
    telemetry.logger().warning("degraded", agent=AGENT_ID, reason=reason)
    message.degraded = reason
    message.abstentions.add(instrument_index=rows.tolist(), reason=_UNAVAILABLE, detail=reason)


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
    market_data = context.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data")
    snapshots = SnapshotClient(market_data, context.snapshots)
    service = AgentService(config, snapshots, features, models, versions, observer)
    name = agent_pb2.DESCRIPTOR.services_by_name["AgentService"].full_name
    context.add(agent_pb2_grpc.add_AgentServiceServicer_to_server, service, name)


DEFINITION = ServiceDefinition(name="learned_agent", version="0.1.0", config=Config, build=build)
