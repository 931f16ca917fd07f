"""A real agent service that misbehaves as a test tells it to, by a file in its data folder, read at each call."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Any

import grpc

from alphamesh.agent.v1 import agent_pb2, agent_pb2_grpc
from python_services.kit.context import Context, ServiceDefinition
from python_services.kit.errors import ServiceError
from python_services.kit.snapshots import SnapshotClient

BEHAVIOUR = "behaviour"
AGENT, KIND = "scripted.one", agent_pb2.Agent.KIND_SENTIMENT


@dataclass(frozen=True, kw_only=True)
class Config:
    """`expected_return` of every instrument, and how sure it is. With `instruments` it looks at no snapshot."""

    expected_return: float = 0.02
    confidence: float = 0.8
    horizon_bars: int = 2
    instruments: int = 0


class ScriptedAgent(agent_pb2_grpc.AgentServiceServicer):
    """Behaviours: "good" (without a file), "slow:<seconds>", "hangs", "fails", "dead", and those of `_spoil`."""

    def __init__(self, context: Context[Config]) -> None:
        self._config = context.config
        self._script = context.data_dir / BEHAVIOUR
        self._snapshots = None
        if not context.config.instruments:
            self._snapshots = SnapshotClient.of(context)

    async def ListAgents(self, request: agent_pb2.ListAgentsRequest, context: Any) -> agent_pb2.ListAgentsResponse:
        """One agent."""
        agent = agent_pb2.Agent(agent_id=AGENT, version="1", kind=KIND, horizon_bars=self._config.horizon_bars)
        return agent_pb2.ListAgentsResponse(agents=[agent])

    async def ComputeForecasts(
        self, request: agent_pb2.ComputeForecastsRequest, context: Any
    ) -> agent_pb2.ComputeForecastsResponse:
        """As it is told."""
        script = self._script.read_text().strip() if self._script.exists() else "good"
        behaviour, _, detail = script.partition(":")
        if behaviour == "fails":
            raise RuntimeError("a bug in an agent")
        if behaviour == "dead":
            raise ServiceError(grpc.StatusCode.UNAVAILABLE, "DEAD", "dead for a test")
        if behaviour in ("slow", "hangs"):
            await asyncio.sleep(float(detail) if behaviour == "slow" else 3600)
        count = self._config.instruments
        if self._snapshots is not None:
            count = len((await self._snapshots.get(request.snapshot_id)).instrument_ids)
        rows = list(range(count))
        forecast = agent_pb2.AgentForecast(
            agent_id=AGENT,
            agent_version="1",
            horizon_bars=self._config.horizon_bars,
            estimates=agent_pb2.Estimates(
                instrument_index=rows,
                expected_return=[self._config.expected_return] * len(rows),
                volatility=[0.02] * len(rows),
                confidence=[self._config.confidence] * len(rows),
            ),
        )
        response = agent_pb2.ComputeForecastsResponse(
            snapshot_id=request.snapshot_id, data_sha256=request.snapshot_id, forecasts=[forecast]
        )
        _spoil(response, behaviour)
        return response


def _spoil(response: agent_pb2.ComputeForecastsResponse, behaviour: str) -> None:
    forecast, estimates = response.forecasts[0], response.forecasts[0].estimates
    match behaviour:
        case "wrong_hash":
            response.data_sha256 = "0" * 64
        case "other_snapshot":
            response.snapshot_id = "0" * 64
        case "nan":
            estimates.expected_return[0] = math.nan
        case "unknown_row":
            estimates.instrument_index[0] = 4_000_000_000
        case "both":
            forecast.abstentions.add(instrument_index=[0], reason=agent_pb2.Abstention.REASON_NO_SIGNAL)
        case "neither":
            forecast.ClearField("estimates")
        case "duplicate":
            response.forecasts.append(forecast)
        case "unlisted":
            forecast.agent_id = "scripted.stranger"
        case "taken":
            forecast.agent_id = "technical.trend"
        case "stale":
            count = len(estimates.instrument_index)
            forecast.ClearField("estimates")
            for row in range(count):
                forecast.abstentions.add(instrument_index=[row], reason=agent_pb2.Abstention.REASON_STALE_DATA)


async def build(context: Context[Config]) -> None:
    context.data_dir.mkdir(parents=True, exist_ok=True)
    name = agent_pb2.DESCRIPTOR.services_by_name["AgentService"].full_name
    context.add(agent_pb2_grpc.add_AgentServiceServicer_to_server, ScriptedAgent(context), name)


DEFINITION = ServiceDefinition(name="scripted_agent", version="1.0.0", config=Config, build=build)
