"""AgentService of the technical agents: translates messages, nothing else."""

from __future__ import annotations

from typing import Any

from alphamesh.agent.v1 import agent_pb2, agent_pb2_grpc
from alphamesh.marketdata.v1 import marketdata_pb2_grpc
from python_services.kit.config import ConfigError
from python_services.kit.context import Context, ServiceDefinition
from python_services.kit.errors import not_found
from python_services.kit.snapshots import SnapshotClient

from . import logic
from .agents.base import Agent, Forecast, Reason, Window
from .config import Config

_REASONS = {reason: agent_pb2.Abstention.Reason.Value(f"REASON_{reason.value}") for reason in Reason}


class AgentService(agent_pb2_grpc.AgentServiceServicer):
    """A pure function of a snapshot; remembers nothing but the snapshots it fetched."""

    def __init__(self, agents: dict[str, Agent], snapshots: SnapshotClient) -> None:
        self._agents = agents
        self._snapshots = snapshots

    async def ListAgents(self, request: agent_pb2.ListAgentsRequest, context: Any) -> agent_pb2.ListAgentsResponse:
        """See the contract."""
        return agent_pb2.ListAgentsResponse(
            agents=[
                agent_pb2.Agent(
                    agent_id=agent.agent_id,
                    version=agent.version,
                    kind=agent_pb2.Agent.KIND_TECHNICAL,
                    minimum_bars=agent.minimum_bars,
                    horizon_bars=agent.horizon_bars,
                    description=agent.description,
                )
                for agent in self._agents.values()
            ]
        )

    async def ComputeForecasts(
        self, request: agent_pb2.ComputeForecastsRequest, context: Any
    ) -> agent_pb2.ComputeForecastsResponse:
        """See the contract."""
        for agent_id in request.agent_ids:
            if agent_id not in self._agents:
                raise not_found("agent", agent_id, f"this cluster has {', '.join(self._agents)}")
        chosen = [self._agents[name] for name in request.agent_ids] or list(self._agents.values())
        snapshot = await self._snapshots.get(request.snapshot_id)
        window = Window(
            snapshot.as_of_ns, snapshot.ts_event_ns, snapshot.open, snapshot.high, snapshot.low, snapshot.close
        )
        return agent_pb2.ComputeForecastsResponse(
            snapshot_id=snapshot.snapshot_id,
            data_sha256=snapshot.data_sha256,
            forecasts=[_message(forecast) for forecast in logic.compute(chosen, window)],
        )


def _message(forecast: Forecast) -> agent_pb2.AgentForecast:
    expected = forecast.expected_return
    return agent_pb2.AgentForecast(
        agent_id=forecast.agent.agent_id,
        agent_version=forecast.agent.version,
        horizon_bars=forecast.agent.horizon_bars,
        estimates=agent_pb2.Estimates(
            instrument_index=forecast.index.tolist(),
            expected_return=None if expected is None else expected.tolist(),
            volatility=forecast.volatility.tolist(),
            confidence=forecast.confidence.tolist(),
            evidence=[
                agent_pb2.Evidence(name=name, value=values.tolist()) for name, values in forecast.evidence.items()
            ],
        ),
        abstentions=[
            agent_pb2.Abstention(
                instrument_index=abstention.index,
                reason=_REASONS[abstention.reason],
                detail=abstention.detail,
            )
            for abstention in forecast.abstentions
        ],
    )


async def build(context: Context[Config]) -> None:
    """Makes every kernel ready and registers the service."""
    try:
        agents = logic.choose(context.config.agents)
    except KeyError as error:
        known = ", ".join(logic.choose(()))
        raise ConfigError(f"technical_agent.agents: {error} is not an agent here; known ones are {known}") from error
    logic.warm()
    market_data = context.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data")
    service = AgentService(agents, SnapshotClient(market_data))
    name = agent_pb2.DESCRIPTOR.services_by_name["AgentService"].full_name
    context.add(agent_pb2_grpc.add_AgentServiceServicer_to_server, service, name)


DEFINITION = ServiceDefinition(name="technical_agent", version="0.1.0", config=Config, build=build)
